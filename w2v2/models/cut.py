"""The cut of an encoder in two: the frozen trunk below, the trained tail above."""

from dataclasses import dataclass
from typing import Literal

from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError

POOLINGS_WITH_WEIGHTS = ("attention", "attentive_statistics")
"""Poolings with trained weights: they come after the cut, so the cut passes on frames and not pooled vectors."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The place where the frozen trunk ends and the trained tail begins."""

    stage: Literal["waveform", "conv", "layer", "pooled"]
    layer: int = 0
    """The hidden state that a 'layer' cut passes on (0 enters the first transformer layer)."""

    def __str__(self) -> str:
        return f"layer{self.layer}" if self.stage == "layer" else self.stage


def cut_for(config: EncoderConfig, num_layers: int) -> Cut:
    """The cut that freezes as much as `config` allows in a model of `num_layers` layers.

    Raises UserError for more layers than the model has, and where none of the used ones would be trained.
    >>> str(cut_for(EncoderConfig(train="last", num_last_layers=2), 12)), str(cut_for(EncoderConfig(train="head"), 12))
    ('layer10', 'pooled')
    """
    top = top_layer(config, num_layers)
    match config.train:
        case "all":
            return Cut(stage="waveform")
        case "no_conv":
            return Cut(stage="conv")
        case "last":
            return _cut_below_last(config, num_layers, top)
        case "head":
            # A mix commutes with linear poolings alone; layers side by side with all that have no weights.
            commutes = config.pooling in ("mean", "sum") or (
                config.layer != "mix" and config.pooling not in (*POOLINGS_WITH_WEIGHTS, "none")
            )
            return Cut(stage="pooled") if commutes else Cut(stage="layer", layer=top)


def chosen_states(config: EncoderConfig, num_layers: int) -> tuple[int, ...]:
    """The hidden states that `config` uses, from 0 (enters the first layer) to num_layers, in order.

    Raises UserError for a layer that the encoder does not have.
    """
    match config.layer:
        case "last":
            return (num_layers,)
        case int(number):
            name, states = "layer", [number]
        case _:
            name, states = "layers", list(config.layers) or list(range(num_layers + 1))
    if states[-1] > num_layers:
        raise UserError(
            f"encoder.{name} must be at most {num_layers}, the layers of {config.name}, got {states[-1]}"
        )
    return tuple(states)


def top_layer(config: EncoderConfig, num_layers: int) -> int:
    """The highest hidden state that `config` uses."""
    return chosen_states(config, num_layers)[-1]


def _cut_below_last(config: EncoderConfig, num_layers: int, top: int) -> Cut:
    frozen = num_layers - config.num_last_layers
    if frozen < 0:
        raise UserError(
            f"encoder.num_last_layers must be at most {num_layers}, the layers of {config.name}, "
            f"got {config.num_last_layers}"
        )
    if top <= frozen:
        raise UserError(
            f"encoder.layer {config.layer} lies below the last {config.num_last_layers} of {num_layers} layers, so "
            "nothing of the encoder would be trained; use --encoder.train head or a larger --encoder.num_last_layers"
        )
    return Cut(stage="layer", layer=frozen)
