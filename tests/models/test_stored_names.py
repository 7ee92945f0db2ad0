"""The names under which a classifier's tensors are stored: model folders, checkpoints and digests of before stay good."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from w2v2.config.data import AudioConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.models.classifier import Classifier
from w2v2.models.encoder import Encoder
from w2v2.models.model_info import ModelInfo
from w2v2.models.saved_model import model_digest
from w2v2.training.trained_weights import trained_state

SCALERS = {
    "joined.mean": [1.0, 2.0],
    "joined.scale": [0.5, 4.0],
    "units.mean": [10.0],
    "units.scale": [3.0],
}
"""Statistics under the names that every version has written."""
HEAD = {"heads.0.layers.1.weight": [[0.5, -1.0, 0.25, 2.0, 1.0]], "heads.0.layers.1.bias": [0.125]}
DIGEST = "974a2075ee112c28"
"""Of a regression with these tensors, as the version before the attributes were renamed computed it."""


class WithoutWeights(Encoder):
    """An encoder without weights, so that no library's names are in the digest."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.dim, self.states, self.config = 3, ("last",), EncoderConfig()
        self.model = SimpleNamespace(config=SimpleNamespace(model_type="wav2vec2"))


def regression() -> Classifier:
    return Classifier(
        WithoutWeights(), HeadConfig(widths=()), groups=[1], num_descriptors=2, denormalize=True
    )


def test_statistics_stored_by_every_version_are_read_into_the_scalers_and_stored_under_the_same_names():
    model = regression()
    stored = {name: torch.tensor(values) for name, values in (SCALERS | HEAD).items()}
    model.load_state_dict(stored)
    assert model.descriptor_scaler is not None and model.target_scaler is not None
    assert model.descriptor_scaler.mean.tolist() == [1.0, 2.0]
    assert model.descriptor_scaler.scale.tolist() == [0.5, 4.0]
    assert model.target_scaler.mean.tolist() == [10.0] and model.target_scaler.scale.tolist() == [3.0]
    assert {name: value.tolist() for name, value in model.state_dict().items()} == SCALERS | HEAD
    assert {name: value.tolist() for name, value in trained_state(model).items()} == SCALERS | HEAD
    info = ModelInfo(
        kind="regression", groups=(("valence",),), audio=AudioConfig(), encoder=EncoderConfig(), head=HeadConfig(widths=()),
        normalize=True, num_descriptors=2,
    )  # fmt: skip
    assert model_digest(model, info) == DIGEST


def test_statistics_taken_from_clips_are_stored_under_these_names():
    model = regression()
    assert model.descriptor_scaler is not None and model.target_scaler is not None
    model.descriptor_scaler.fit(np.array([[0.0, -1.0], [4.0, 1.0]]))
    model.target_scaler.fit(np.array([[7.0], [9.0]]))
    stored = {name: value.tolist() for name, value in model.state_dict().items() if name in SCALERS}
    assert stored == {
        "joined.mean": [2.0, 0.0], "joined.scale": [2.0, 1.0], "units.mean": [8.0], "units.scale": [1.0],
    }  # fmt: skip


def test_a_model_without_hand_made_features_and_values_stores_no_statistics():
    model = Classifier(WithoutWeights(), HeadConfig(widths=()), groups=[2])
    assert model.descriptor_scaler is None and model.target_scaler is None
    assert sorted(model.state_dict()) == ["heads.0.layers.1.bias", "heads.0.layers.1.weight"]
