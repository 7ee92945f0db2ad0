"""The digest of an encoder changes with its weights and architecture, and with nothing else."""

from dataclasses import dataclass, field

import torch
from transformers import (
    Wav2Vec2Config,
)

from tests.made.encoders import random_model
from w2v2.models.pretrained import weights_digest


def test_digest_sees_one_bit_of_one_weight():
    model = random_model()
    before = weights_digest(model)
    with torch.no_grad():
        bias = model.encoder.layers[1].final_layer_norm.bias
        bias[3] = torch.nextafter(bias[3], torch.tensor(1.0))
    assert weights_digest(model) != before
    assert len(before) == 16 and int(before, 16)


def test_digest_sees_names_shapes_and_types():
    @dataclass
    class State:
        state: dict[str, torch.Tensor]
        config: Wav2Vec2Config = field(default_factory=Wav2Vec2Config)

        def state_dict(self) -> dict[str, torch.Tensor]:
            return self.state

    zeros = torch.zeros(2, 3)
    states = [{"a": zeros}, {"b": zeros}, {"a": zeros.T}, {"a": zeros.double()}, {"a": zeros, "b": zeros}]
    digests = [weights_digest.__wrapped__(State(state)) for state in states]  # past the check for a model
    assert len(set(digests)) == len(states)


def test_digest_sees_the_architecture_and_not_where_it_was_saved():
    model = random_model()
    before = weights_digest(model)
    model.config._name_or_path = "/elsewhere"
    assert weights_digest(model) == before
    model.config.hidden_act = "relu"
    assert weights_digest(model) != before


def test_digest_does_not_depend_on_memory_layout_or_gradients():
    model = random_model()
    before = weights_digest(model)
    weight = model.feature_projection.projection.weight
    weight.data = weight.data.T.contiguous().T
    model.requires_grad_(False)
    assert weights_digest(model) == before
