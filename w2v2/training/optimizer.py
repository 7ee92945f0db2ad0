"""AdamW over a model's trained parameters, with the learning rate of each."""

import math
import re
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from w2v2.config.model import OptimConfig

if TYPE_CHECKING:
    from w2v2.models.encoder import Encoder

LATE_FRACTION = 0.7
"""The fraction of training after which 'late' begins."""
NUM_CYCLES = 5
"""Cycles of triangular2 over the steps after warm-up."""
LAYER = re.compile(r"encoder\.model\.encoder\.(?:layers|encoder\.layer)\.(\d+)\.")


def learning_rate_scale(step: int, *, num_steps: int, optim: OptimConfig) -> float:
    """Factor in [0, 1] on the peak learning rate at `step` of `num_steps`, counted from 0.

    Warm-up rises linearly and reaches 1 at its end; the schedule covers the steps after it.

    >>> optim = OptimConfig(schedule="linear", warmup_fraction=0.2)
    >>> [learning_rate_scale(step, num_steps=10, optim=optim) for step in (0, 1, 2, 4, 8)]
    [0.5, 1.0, 1.0, 0.75, 0.25]
    """
    warmup_steps = round(optim.warmup_fraction * num_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    match optim.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        case "triangular2":
            return _triangular2(progress * NUM_CYCLES)
        case "late_decay":
            done = step / num_steps
            return 1.0 if done < LATE_FRACTION else (1.0 - done) / (1.0 - LATE_FRACTION)


def _triangular2(cycles: float) -> float:
    """Triangles from 0 to a peak that halves every cycle (Smith 2017, arXiv:1506.01186)."""
    number, position = divmod(cycles, 1.0)
    return (1.0 - abs(2.0 * position - 1.0)) / 2.0**number


def batch_size_at(epoch: int, *, num_epochs: int, optim: OptimConfig) -> int:
    """Clips per optimizer step in `epoch` (from 0), larger in late epochs if late_batch_factor is above 1."""
    late = epoch >= math.ceil(LATE_FRACTION * num_epochs)
    return optim.batch_size * (optim.late_batch_factor if late else 1)


def layer_depth(name: str, *, top: int, stable: bool) -> int:
    """The depth of a parameter below the head: 0 in the head, 1 in the highest layer used, `top` in the first.

    The projection and positions before the first layer are at top + 1, the convolutions at top + 2. name is the
    parameter's name in the model; in a stable encoder the last normalisation counts with the highest layer.

    >>> layer_depth("heads.0.layers.1.weight", top=12, stable=False)
    0
    >>> layer_depth("encoder.model.encoder.layers.11.attention.q_proj.weight", top=12, stable=False)
    1
    """
    if not name.startswith("encoder."):
        return 0
    if match := LAYER.match(name):
        return top - int(match[1])
    if name.startswith("encoder.model.feature_extractor."):
        return top + 2
    if name.startswith("encoder.model.encoder.upsample."):  # SEW's, behind the layers
        return 1
    return 1 if stable and name.startswith("encoder.model.encoder.layer_norm.") else top + 1


def make_optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); biases, normalisation weights and other vectors do not decay.

    The first groups are the head's. Below it the learning rate is optim.learning_rate * layer_decay ** layer_depth, as
    in ELECTRA (Clark et al. 2020, arXiv:2003.10555, appendix A), for models with an `encoder`.
    """
    by_depth: dict[int, list[nn.Parameter]] = {0: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_depth.setdefault(_depth(model, name, optim), []).append(parameter)
    groups = [
        {
            "params": [p for p in by_depth[depth] if (p.ndim >= 2) is decays],
            "weight_decay": optim.weight_decay if decays else 0.0,
            "lr": optim.learning_rate * optim.layer_decay**depth,
        }
        for depth in sorted(by_depth)
        for decays in (True, False)
    ]
    return torch.optim.AdamW(
        groups,
        lr=optim.learning_rate,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        amsgrad=optim.amsgrad,
        fused=True,
    )


def _depth(model: nn.Module, name: str, optim: OptimConfig) -> int:
    """The depth of a parameter if learning rates depend on it, else 0: a single group, as in earlier checkpoints."""
    if optim.layer_decay == 1.0:
        return 0
    encoder = cast("Encoder", model.encoder)
    return layer_depth(name, top=encoder.top, stable=encoder.stable)
