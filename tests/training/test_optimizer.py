"""AdamW against its equations, written out in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.test_encoder import MODELS, make_encoder
from tests.training.made import classifier, clip_set
from w2v2.config.model import HeadConfig, OptimConfig, TrainingConfig
from w2v2.models.classifier import Classifier
from w2v2.training import trainer
from w2v2.training.optimizer import make_optimizer

SETTINGS = [
    OptimConfig(learning_rate=0.03, weight_decay=0.2, beta1=0.7, beta2=0.95, eps=1e-3),
    OptimConfig(learning_rate=0.01, weight_decay=0.0),
    OptimConfig(learning_rate=0.03, weight_decay=0.1, beta1=0.0, beta2=0.5, amsgrad=True),
]


def by_hand(theta: np.ndarray, gradients: list[np.ndarray], optim: OptimConfig, decay: float) -> np.ndarray:
    """Loshchilov & Hutter 2019, algorithm 2; AMSGrad (Reddi et al. 2018) keeps the largest second moment."""
    m, v, largest = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        m = optim.beta1 * m + (1 - optim.beta1) * g
        v = optim.beta2 * v + (1 - optim.beta2) * g**2
        largest = np.maximum(largest, v)
        v_hat = (largest if optim.amsgrad else v) / (1 - optim.beta2**t)
        m_hat = m / (1 - optim.beta1**t)
        theta = theta - optim.learning_rate * (m_hat / (np.sqrt(v_hat) + optim.eps) + decay * theta)
    return theta


@pytest.mark.parametrize("optim", SETTINGS, ids=["decay", "plain", "amsgrad"])
def test_steps_equal_the_equations(optim):
    torch.manual_seed(1)
    layer = nn.Linear(5, 3).double()
    start = {name: p.detach().numpy().copy() for name, p in layer.named_parameters()}
    optimizer = make_optimizer(layer, optim)
    gradients = []
    for scale in (1.0, 3.0, 0.1, 0.5):
        optimizer.zero_grad()
        (scale * layer(torch.randn(7, 5, dtype=torch.float64)).square().sum()).backward()
        gradients.append({name: p.grad.numpy().copy() for name, p in layer.named_parameters()})
        optimizer.step()
    for name, decay in [("weight", optim.weight_decay), ("bias", 0.0)]:
        expected = by_hand(start[name], [g[name] for g in gradients], optim, decay)
        np.testing.assert_allclose(getattr(layer, name).detach().numpy(), expected, rtol=1e-10)
        assert not np.allclose(start[name], expected, rtol=1e-3)


def test_vectors_do_not_decay_and_what_is_frozen_is_left_out():
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.LayerNorm(3), nn.Linear(3, 4), nn.Linear(4, 7))
    model[3].requires_grad_(False)
    decays = {
        id(p): group["weight_decay"]
        for group in make_optimizer(model, OptimConfig(weight_decay=0.5)).param_groups
        for p in group["params"]
    }
    trained = {name: decays.get(id(p)) for name, p in model.named_parameters() if not name.startswith("3.")}
    assert trained == {
        "0.weight": 0.5,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.5,
        "2.bias": 0.0,
    }
    assert len(decays) == len(trained)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    "settings",
    [dict(train="all"), dict(train="no_conv", layer=2), dict(train="last", num_last_layers=2)],
    ids=str,
)
def test_the_rate_of_each_layer_is_that_of_the_one_above_times_the_decay(kind, settings):
    encoder = make_encoder(kind, **settings)
    model = Classifier(encoder, HeadConfig(widths=(7,)), groups=[3])
    optim = OptimConfig(learning_rate=0.02, layer_decay=0.5, weight_decay=0.1)
    groups = make_optimizer(model, optim).param_groups
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    top, stock = encoder.top, encoder.model
    expected = {id(p): 0.02 for p in model.heads.parameters()}
    for number, layer in enumerate(stock.encoder.layers[:top], start=1):
        expected |= {id(p): 0.02 * 0.5 ** (1 + top - number) for p in layer.parameters()}
    entering = [stock.feature_projection, stock.encoder.pos_conv_embed]
    if stock.config.to_dict().get("do_stable_layer_norm") or kind.startswith("conformer"):
        expected |= {id(p): 0.02 * 0.5 for p in stock.encoder.layer_norm.parameters()}
    else:
        entering.append(stock.encoder.layer_norm)
    expected |= {id(p): 0.02 * 0.5 ** (top + 1) for part in entering for p in part.parameters()}
    expected |= {id(p): 0.02 * 0.5 ** (top + 2) for p in stock.feature_extractor.parameters()}
    trained = {id(p): p for p in model.parameters() if p.requires_grad}
    assert rate == pytest.approx({key: expected[key] for key in trained})
    assert decay == {key: 0.1 if p.ndim >= 2 else 0.0 for key, p in trained.items()}
    assert groups[0]["lr"] == 0.02 and len({*rate.values()}) >= 3


def test_without_layer_decay_the_groups_are_the_two_that_older_checkpoints_have():
    model = Classifier(make_encoder("wav2vec2-layer", train="all"), HeadConfig(), groups=[3])
    groups = make_optimizer(model, OptimConfig()).param_groups
    trained = [p for p in model.parameters() if p.requires_grad]
    for group, wanted in zip(groups, (lambda p: p.ndim >= 2, lambda p: p.ndim < 2), strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in trained if wanted(p)]


def test_the_schedule_scales_every_layers_rate_and_a_first_step_is_as_large_as_it():
    """Adam's first step is lr g / (|g| + eps), whatever the size of the gradient."""
    optim = OptimConfig(learning_rate=1e-3, layer_decay=0.5, weight_decay=0.0, eps=1e-12, batch_size=100)
    optim = replace(optim, schedule="constant", warmup_fraction=0.5)
    model = classifier(train="last", num_last_layers=2)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.train(model, clip_set(model.encoder), optim=optim, training=TrainingConfig(num_epochs=1), seed=0)
    largest = {name: (p.detach() - start[name]).abs().max().item() for name, p in model.named_parameters()}
    layer = "encoder.model.encoder.layers.{}.feed_forward.output_dense.weight"
    for name, depth in [("heads.0.layers.4.weight", 0), (layer.format(2), 1), (layer.format(1), 2)]:
        assert largest[name] == pytest.approx(1e-3 * 0.5**depth, rel=1e-2)
    assert largest[layer.format(0)] == 0
