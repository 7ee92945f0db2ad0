"""Pooling against plain loops over each clip's own frames; padding changes nothing."""

import math

import jaxtyping
import numpy as np
import pytest
import torch

from tests import type_checks
from w2v2.models.pooling import (
    AttentionPool,
    AttentiveStatistics,
    LayerMix,
    frame_mask,
    pool,
    pooled_dim,
    weighted_pool,
)

COUNTS = [7, 1, 4]
PLAIN = ["mean", "sum", "max", "mean+std"]


def states(*inner: int, padding: int = 0, fill: float = 100.0) -> torch.Tensor:
    torch.manual_seed(4)
    rows = torch.full((3, max(COUNTS) + padding, *inner), fill)
    for row, count in zip(rows, COUNTS, strict=True):
        row[:count] = torch.randn(count, *inner) - 2.0  # a mean that 0 is far from
    return rows


def by_loop(rows: np.ndarray, pooling: str) -> np.ndarray:
    match pooling:
        case "mean":
            return rows.mean(0)
        case "sum":
            return rows.sum(0)
        case "max":
            return rows.max(0)
        case _:
            return np.concatenate([rows.mean(0), np.maximum(rows.std(0), 1e-5)], axis=-1)


@pytest.mark.parametrize("pooling", PLAIN)
@pytest.mark.parametrize("inner", [(5,), (2, 5)])
def test_equals_a_loop_over_clips(pooling, inner):
    hidden = states(*inner)
    pooled = pool(hidden, torch.tensor(COUNTS), pooling).numpy()
    for row, count, result in zip(hidden.numpy(), COUNTS, pooled, strict=True):
        np.testing.assert_allclose(result, by_loop(row[:count], pooling), rtol=1e-4, atol=1e-6)
    assert pooled.shape == (3, *inner[:-1], pooled_dim(5, pooling))


@pytest.mark.parametrize("pooling", PLAIN)
def test_padding_changes_nothing(pooling):
    counts = torch.tensor(COUNTS)
    short = pool(states(5), counts, pooling)
    long = pool(states(5, padding=13, fill=-77.0), counts, pooling)
    torch.testing.assert_close(short, long)


@pytest.mark.parametrize("pooling", PLAIN)
def test_gradient_is_finite_and_only_a_clips_own_frames_get_one(pooling):
    hidden = states(5).requires_grad_()
    pool(hidden, torch.tensor(COUNTS), pooling).square().sum().backward()
    assert torch.isfinite(hidden.grad).all()
    inside = frame_mask(torch.tensor(COUNTS), 7)
    assert not hidden.grad[~inside].any()
    assert hidden.grad[inside].abs().sum(-1).gt(0).float().mean() > (0.3 if pooling == "max" else 0.9)


@pytest.mark.parametrize("pooling", PLAIN)
def test_half_precision_frames_are_pooled_in_float32(pooling):
    hidden = (torch.rand(1, 257, 2) + 1).bfloat16()
    count = torch.tensor([257])
    assert torch.equal(pool(hidden, count, pooling), pool(hidden.float(), count, pooling))


def test_attention_pool_is_a_softmax_over_own_frames():
    torch.manual_seed(0)
    module = AttentionPool(5)
    weight, bias = module.score.weight.detach().numpy()[0], module.score.bias.detach().numpy()[0]
    with torch.no_grad():
        pooled = module(states(5), torch.tensor(COUNTS)).numpy()
        longer = module(states(5, padding=3, fill=-5.0), torch.tensor(COUNTS)).numpy()
    for row, count, result in zip(states(5).numpy(), COUNTS, pooled, strict=True):
        scores = np.exp(row[:count] @ weight + bias)
        np.testing.assert_allclose(result, scores / scores.sum() @ row[:count], rtol=1e-4)
    np.testing.assert_allclose(pooled, longer, rtol=1e-5)
    assert pooled_dim(5, "attention") == 5


def test_attentive_statistics_are_those_of_the_paper():
    """Okabe et al. 2018: e = v' tanh(W h + b), its softmax over frames, and equations 5 and 6."""
    torch.manual_seed(0)
    module = AttentiveStatistics(5).double()
    weight, bias, v = (p.detach().numpy() for p in module.parameters())
    hidden = states(5).double()
    with torch.no_grad():
        pooled = module(hidden, torch.tensor(COUNTS)).numpy()
    for row, count, result in zip(hidden.numpy(), COUNTS, pooled, strict=True):
        inside = row[:count]
        scores = np.exp(np.tanh(inside @ weight.T + bias) @ v[0])
        share = scores / scores.sum()
        mean = share @ inside
        variance = share @ inside**2 - mean**2
        np.testing.assert_allclose(result[:5], mean, rtol=1e-4)
        np.testing.assert_allclose(result[5:], np.sqrt(np.maximum(variance, 1e-10)), rtol=1e-3, atol=1e-5)
    assert pooled.shape == (3, pooled_dim(5, "attentive_statistics"))


def test_equal_scores_leave_the_plain_mean_and_deviation():
    module = AttentiveStatistics(5)
    torch.nn.init.zeros_(module.score.weight)
    with torch.no_grad():
        pooled = module(states(5), torch.tensor(COUNTS))
    torch.testing.assert_close(
        pooled, pool(states(5), torch.tensor(COUNTS), "mean+std"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("pooling", ["attention", "attentive_statistics"])
def test_padding_changes_nothing_of_poolings_with_weights(pooling):
    torch.manual_seed(0)
    module, counts = weighted_pool(5, pooling), torch.tensor(COUNTS)
    hidden = states(5, padding=13, fill=-77.0).requires_grad_()
    together = module(hidden, counts)
    together.square().sum().backward()
    for row, count, result in zip(states(5), COUNTS, together, strict=True):
        alone = module(row[None, :count], torch.tensor([count]))
        torch.testing.assert_close(result, alone[0], rtol=1e-5, atol=1e-6)
    assert torch.isfinite(hidden.grad).all() and not hidden.grad[~frame_mask(counts, 20)].any()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


def test_attentive_statistics_of_half_precision_are_summed_in_float32():
    module = AttentiveStatistics(2)
    torch.nn.init.zeros_(module.score.weight)
    hidden, count = (torch.rand(1, 257, 2) + 1).bfloat16(), torch.tensor([257])
    with torch.autocast("cpu", torch.bfloat16):
        pooled = module(hidden, count)
    torch.testing.assert_close(pooled, pool(hidden, count, "mean+std"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["attention", "attentive_statistics"])
def test_a_pooling_with_weights_is_not_a_free_function(pooling):
    with pytest.raises(AssertionError, match="use weighted_pool"):
        pool(states(5), torch.tensor(COUNTS), pooling)


def test_layer_mix_starts_equal_and_stays_convex():
    mix = LayerMix(3)
    hidden = torch.randn(2, 7, 3, 5)
    torch.testing.assert_close(mix(hidden), hidden.mean(2))
    with torch.no_grad():
        mix.logits.copy_(torch.tensor([0.0, 1.0, -2.0]))
    weights = np.exp([0.0, 1.0, -2.0]) / np.exp([0.0, 1.0, -2.0]).sum()
    expected = sum(w * hidden[:, :, s] for s, w in enumerate(weights))
    torch.testing.assert_close(mix(hidden), expected.float())
    torch.testing.assert_close(mix(hidden[:, 0]), expected[:, 0].float())  # pooled states mix the same way


def test_frame_mask():
    assert frame_mask(torch.tensor([0, 2]), 3).tolist() == [[False, False, False], [True, True, False]]


def test_shapes_are_checked_here(monkeypatch):
    """The checks of tests/type_checks.py are at work: without them every shape in a signature is a comment."""
    monkeypatch.setattr(type_checks, "ALL_CHECKED", math.inf)  # of the calls that other tests made, too
    with pytest.raises(jaxtyping.TypeCheckError):
        frame_mask(torch.zeros(2, 2, dtype=torch.int64), 3)
