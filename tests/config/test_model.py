"""Settings of encoders and trainings that contradict each other are refused in a sentence."""

from dataclasses import replace
from typing import Any

import pytest

from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, LoraConfig, OptimConfig
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError

HEAD = EncoderConfig(train="head")
FOR_LAYERS: list[dict[str, Any]] = [dict(optim=OptimConfig(layer_decay=0.9)), dict(lora=LoraConfig(rank=4))]


@pytest.mark.parametrize("config", [FinetuneConfig(), TuneFoldsConfig()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("settings", FOR_LAYERS, ids=str)
def test_what_is_for_trained_layers_is_refused_where_none_is_trained(config, settings):
    assert replace(config, **settings)
    with pytest.raises(
        UserError, match=r"is for trained layers of the encoder, and encoder.train=head trains none"
    ):
        replace(config, encoder=HEAD, **settings)


def test_the_same_of_a_search():
    space = {"optim.layer_decay": Dimension(low=0.8, high=1.0)}
    with pytest.raises(UserError, match=r"^optim.layer_decay is for trained layers"):
        TuneFoldsConfig(encoder=HEAD, search=SearchConfig(space=space))
    both = space | {"encoder.train": Dimension(choices=("head", "last"))}
    assert TuneFoldsConfig(encoder=HEAD, search=SearchConfig(space=both))


@pytest.mark.parametrize("layer_decay", [0.0, -0.1, 1.1, float("nan")])
def test_a_layer_decay_that_is_no_fraction(layer_decay):
    with pytest.raises(UserError, match=r"^optim.layer_decay must be in \(0, 1\], got"):
        OptimConfig(layer_decay=layer_decay)
