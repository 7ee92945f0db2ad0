"""Losses against scikit-learn and their equations; parts add up to the whole."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from w2v2.losses import balanced_class_weights, cross_entropy_sum


@pytest.fixture
def logits() -> torch.Tensor:
    torch.manual_seed(2)
    return 3 * torch.randn(11, 5)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 3, 4, 0, 0, 1, 3, 3, 0])


@pytest.mark.parametrize("weights", [None, [0.3, 2.0, 1.0, 0.1, 5.0]])
def test_equals_scikit_learn(logits, targets, weights):
    probabilities = logits.double().softmax(1).numpy()
    each = None if weights is None else np.array(weights)[targets]
    expected = log_loss(targets.numpy(), probabilities, sample_weight=each, normalize=False)
    tensor = None if weights is None else torch.tensor(weights)
    assert float(cross_entropy_sum(logits, targets, class_weights=tensor)) == pytest.approx(
        expected, rel=1e-5
    )


def test_label_smoothing_is_its_equation(logits, targets):
    """(1 - e) * -log p(target) + e * the mean over classes of -log p (Szegedy et al. 2016)."""
    surprise = -logits.double().log_softmax(1)
    expected = 0.7 * surprise[torch.arange(11), targets] + 0.3 * surprise.mean(1)
    total = cross_entropy_sum(logits, targets, label_smoothing=0.3)
    assert float(total) == pytest.approx(float(expected.sum()), rel=1e-5)


def test_sums_over_parts_are_the_whole(logits, targets):
    settings = dict(class_weights=torch.tensor([1.0, 0.5, 2.0, 3.0, 0.1]), label_smoothing=0.2)
    whole = cross_entropy_sum(logits, targets, **settings)
    parts = [
        cross_entropy_sum(logits[part], targets[part], **settings)
        for part in (slice(0, 2), slice(2, 7), slice(7, 11))
    ]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-6)


def test_half_precision_logits_are_summed_in_float32(logits, targets):
    half = logits.bfloat16()
    assert cross_entropy_sum(half, targets) == cross_entropy_sum(half.float(), targets)


@pytest.mark.parametrize("counts", [[4, 4, 4], [1, 2, 97], [5, 1, 0]])
def test_balanced_weights_equal_scikit_learn(counts):
    targets = np.repeat(np.arange(3), counts)
    present = np.unique(targets)
    expected = np.zeros(3)
    expected[present] = compute_class_weight("balanced", classes=present, y=targets)
    weights = balanced_class_weights(targets, 3).numpy()
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[targets].sum() == pytest.approx(len(targets), rel=1e-6)
