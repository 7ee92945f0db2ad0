"""Every trained weight of every family is reached by the loss, and one that is not is named."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.test_encoder import MODELS, make_encoder
from w2v2.config.model import HeadConfig, LoraConfig, OptimConfig, TrainingConfig
from w2v2.errors import UserError
from w2v2.features.batches import ClipSet
from w2v2.features.trunk_features import run_trunk
from w2v2.models.classifier import Classifier
from w2v2.models.lora import add_lora
from w2v2.training.gradients import check_gradients
from w2v2.training.trainer import Trainer

LENGTHS = [900, 1400, 1100, 700]
ONE_STEP = TrainingConfig(num_epochs=1)


def trainer(model: Classifier, training: TrainingConfig = ONE_STEP) -> Trainer:
    """A training of one step an epoch on noise."""
    rng = np.random.default_rng(2)
    waveforms = [rng.normal(size=length).astype(np.float32) for length in LENGTHS]
    clips = ClipSet(
        features=run_trunk(model.encoder, waveforms),
        lengths=np.array(LENGTHS),
        targets=np.array([0, 1, 2, 0]),
    )
    return Trainer(model, clips, optim=OptimConfig(learning_rate=1.5e-3), training=training, seed=0)


SETTINGS = [
    dict(train="all"),
    dict(train="last", num_last_layers=2, layer="mix", pooling="attentive_statistics"),
]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_trained_weight_gets_a_gradient_and_moves(kind, settings):
    model = Classifier(make_encoder(kind, **settings), HeadConfig(widths=(5,), dropout=0.0), groups=[3])
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer(model).run()  # raises where a trained weight has no gradient
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    # Softmax does not see what is added to all of its inputs.
    blind = {name for name in trained if name.endswith(("k_proj.bias", "attention.score.bias"))}
    assert moved - blind == trained - blind and len(trained) > 20


@pytest.mark.parametrize("kind", MODELS)
def test_low_rank_updates_get_gradients_in_every_family(kind):
    model = Classifier(
        make_encoder(kind, train="last", num_last_layers=2), HeadConfig(dropout=0.0), groups=[3]
    )
    every = LoraConfig(rank=2, projections=("query", "key", "value", "output", "feed_forward"))
    add_lora(model.encoder, every)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer(
        model, TrainingConfig(num_epochs=2)
    ).run()  # A moves at the second step: its gradient is B times something, and B begins as zeros
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    # A Conformer's layer has two feed-forward parts.
    num_projections = 8 if kind.startswith("conformer") else 6
    assert sum(name.endswith((".a", ".b")) for name in moved) == 2 * num_projections * 2


class Wrapped(nn.Module):
    """A projection with a low-rank part added, as it is usually done: by a module around it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.low_rank = nn.Linear(linear.in_features, linear.out_features)

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias) + self.low_rank(x)


@pytest.mark.parametrize("kind, is_bypassed", [("wavlm-group", True), ("wav2vec2-group", False)])
def test_a_weight_that_the_forward_bypasses_is_named(kind, is_bypassed):
    model = Classifier(make_encoder(kind, train="last", num_last_layers=1), HeadConfig(), groups=[3])
    attention = model.encoder.model.encoder.layers[-1].attention
    attention.q_proj = Wrapped(attention.q_proj)
    if not is_bypassed:
        trainer(model).run()
        return
    with pytest.raises(
        UserError,
        match=r"^2 of \d+ trained weights .* stay as they are: \S+q_proj.low_rank.weight, \S+q_proj.low_rank.bias;",
    ):
        trainer(model).run()


def test_many_are_counted_and_the_first_named():
    with pytest.raises(UserError, match=r"^10 of 10 .*: 0.weight, .*, 3.bias and 2 more; "):
        check_gradients(nn.Sequential(*(nn.Linear(2, 2) for _ in range(5))))
