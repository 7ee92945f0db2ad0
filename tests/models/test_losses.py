"""Losses against scikit-learn and their equations; parts add up to the whole."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.utils.class_weight import compute_class_weight

from w2v2.evaluation import regression
from w2v2.models.losses import (
    balanced_class_weights,
    bce_sum,
    concordance_loss,
    correlation_penalty,
    cross_entropy_sum,
    mse_sum,
    variance_penalty,
)


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


def gaps(seed, rows=7, columns=3, missing=0.3):
    """Outputs, and targets of which some are missing."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    targets = 2 * torch.randn(rows, columns, generator=generator, dtype=torch.float64) + 1
    targets[torch.rand(rows, columns, generator=generator) < missing] = torch.nan
    return outputs, targets


def present_columns(outputs, targets):
    """Outputs and targets of each column where the target is known, as numpy."""
    for output, target in zip(outputs.T.numpy(), targets.T.numpy(), strict=True):
        yield output[~np.isnan(target)], target[~np.isnan(target)]


@pytest.mark.parametrize("seed", range(3))
def test_bce_of_known_targets_equals_scikit_learn(seed):
    logits, targets = gaps(seed)
    targets = torch.where(targets.isnan(), targets, (targets > 1).double())
    expected = sum(
        log_loss(t, 1 / (1 + np.exp(-x)), labels=[0, 1], normalize=False)
        for x, t in present_columns(logits, targets)
    )
    assert float(bce_sum(logits, targets)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_mse_of_known_targets_equals_scikit_learn(seed):
    outputs, targets = gaps(seed)
    expected = sum(len(t) * mean_squared_error(t, y) for y, t in present_columns(outputs, targets))
    assert float(mse_sum(outputs, targets)) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [bce_sum, mse_sum])
def test_sums_of_parts_are_the_whole_and_missing_targets_have_no_gradient(loss):
    outputs, targets = gaps(1)
    targets = targets.clamp(0, 1)
    parts = [loss(outputs[part], targets[part]) for part in (slice(0, 2), slice(2, 7))]
    assert float(sum(parts)) == pytest.approx(float(loss(outputs, targets)))
    loss(outputs.requires_grad_(), targets).backward()
    assert torch.equal(outputs.grad == 0, targets.isnan())


@pytest.mark.parametrize("seed", range(3))
def test_variance_penalty_is_its_equation(seed):
    outputs, targets = gaps(seed)
    outputs *= torch.tensor([0.1, 0.5, 2.0])
    lacks = [max(0.0, 1 - y.std() / t.std()) ** 2 for y, t in present_columns(outputs, targets)]
    assert float(variance_penalty(outputs, targets)) == pytest.approx(np.mean(lacks))
    assert np.mean(lacks) > 0
    # Outputs that spread more than the targets cost nothing.
    assert float(variance_penalty(100 * outputs, targets)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_correlation_penalty_is_the_mean_square_of_pearsons_r_over_pairs(seed):
    outputs, _ = gaps(seed, columns=5)
    r = np.corrcoef(outputs.T.numpy())
    expected = np.mean([r[i, j] ** 2 for i in range(5) for j in range(i)])
    assert float(correlation_penalty(outputs)) == pytest.approx(expected)
    assert float(correlation_penalty(outputs * 3 + 1e3)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_concordance_loss_is_one_minus_lins_coefficient(seed):
    outputs, targets = gaps(seed)
    scores = regression.scores(targets.numpy(), outputs.numpy(), ["a", "b", "c"])
    assert float(concordance_loss(outputs, targets)) == pytest.approx(1 - scores["mean"]["ccc"])
    assert float(concordance_loss(targets[:, :1].nan_to_num(), targets[:, :1])) == pytest.approx(0, abs=1e-12)


WHOLE = {
    "variance": variance_penalty,
    "correlation": lambda outputs, targets: correlation_penalty(outputs),
    "concordance": concordance_loss,
}


@pytest.mark.parametrize("name", [*WHOLE, "bce", "mse"])
def test_gradients_are_those_of_the_loss(name):
    outputs, targets = gaps(2)
    loss = (WHOLE | {"bce": bce_sum, "mse": mse_sum})[name]
    assert torch.autograd.gradcheck(lambda x: loss(x, targets.clamp(0, 1)), outputs.requires_grad_())


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [0.0, 1e-30, 1e-12])
@pytest.mark.parametrize("middle", [0.0, 0.1, -1e3])
def test_gradients_are_finite_at_no_spread(name, dtype, spread, middle):
    outputs, targets = gaps(3)
    outputs = (middle + spread * outputs).to(dtype).requires_grad_()
    loss = WHOLE[name](outputs, targets.to(dtype))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()


def test_correlation_of_rounding_errors_has_no_gradient():
    outputs = (0.1 + 1e-9 * gaps(3)[0]).float().requires_grad_()
    correlation_penalty(outputs).backward()
    assert not outputs.grad.any()


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "targets",
    [
        torch.tensor([[0.1], [0.1], [0.1], [0.1]]),
        torch.tensor([[1.0], [torch.nan], [torch.nan], [torch.nan]]),
        torch.full((4, 1), torch.nan),
        torch.zeros(1, 1),
        torch.zeros(0, 1),
    ],
)
def test_what_is_undefined_in_a_batch_costs_nothing(name, targets):
    outputs = torch.linspace(-1, 2, len(targets)).unsqueeze(1).requires_grad_()
    loss = WHOLE[name](outputs, targets)
    loss.backward()
    assert loss.item() == 0 and not outputs.grad.any()


def test_undefined_target_leaves_the_others_theirs():
    outputs, targets = gaps(4)
    targets[:, 1] = 5.0
    others = [0, 2]
    whole = float(variance_penalty(outputs, targets))
    assert whole == pytest.approx(float(variance_penalty(outputs[:, others], targets[:, others])) * 2 / 3)
    assert float(concordance_loss(outputs, targets)) == pytest.approx(
        float(concordance_loss(outputs[:, others], targets[:, others]))
    )
    constant = outputs.clone()
    constant[:, 1] = 0.3
    r = np.corrcoef(outputs[:, others].T.numpy())[0, 1]
    assert float(correlation_penalty(constant)) == pytest.approx(r**2 / 3)
