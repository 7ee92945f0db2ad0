"""AdamW against its equations, written out in numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from w2v2.config.model import OptimConfig
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
