"""Calibration by hand and by scikit-learn; a temperature undoes what was done to probabilities, leak-free."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from w2v2.evaluation.calibration import calibration, fitted_temperature, with_temperature


def made(seed, *, num_clips=4000, num_classes=4):
    """Probabilities that mean what they say, and targets drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(num_classes, 0.5), num_clips)
    cumulative = probabilities.cumsum(1)
    target = (rng.random((num_clips, 1)) > cumulative).sum(1).clip(max=num_classes - 1)
    return probabilities, target


def test_a_case_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.35, 0.65]])
    target = np.array([0, 1, 0, 1])
    numbers = calibration(probabilities, target)
    # Bins of a fifteenth: .6 and .65 share one (both right), .9 has two clips (one right).
    assert numbers["ece"] == pytest.approx((2 * 0.375 + 2 * 0.4) / 4)
    assert numbers["brier"] == pytest.approx(np.mean([2 * 0.01, 2 * 0.81, 2 * 0.16, 2 * 0.1225]))
    assert numbers["cross_entropy"] == pytest.approx(-np.log([0.9, 0.1, 0.6, 0.65]).mean())
    assert [row["num_clips"] for row in numbers["bins"]] == [2, 2] and "temperature" not in numbers


def test_scores_are_scikit_learns():
    probabilities, target = made(0)
    numbers = calibration(probabilities, target)
    assert numbers["cross_entropy"] == pytest.approx(log_loss(target, probabilities, labels=range(4)))
    binary = probabilities[:, :2] / probabilities[:, :2].sum(1, keepdims=True)
    is_one = target % 2
    expected = 2 * brier_score_loss(is_one, binary[:, 1])
    assert calibration(binary, is_one)["brier"] == pytest.approx(expected)
    assert numbers["ece"] < 0.03  # these mean what they say


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_a_temperature_is_undone_and_no_prediction_changes(temperature):
    probabilities, target = made(1)
    wrong = with_temperature(probabilities, temperature)
    assert fitted_temperature(wrong, target) == pytest.approx(1 / temperature, rel=0.06)
    np.testing.assert_array_equal(wrong.argmax(1), probabilities.argmax(1))
    np.testing.assert_allclose(with_temperature(wrong, 1 / temperature), probabilities, atol=1e-4)
    numbers = calibration(wrong, target, fold=np.arange(len(target)) % 5)
    after = numbers["temperature"]
    assert after["ece"] < 0.03 < 0.08 < numbers["ece"] and after["brier"] < numbers["brier"]
    assert after["cross_entropy"] < numbers["cross_entropy"] and len(after["by_fold"]) == 5


def test_a_folds_own_clips_have_no_part_in_its_temperature():
    probabilities, target = made(2, num_clips=600)
    fold = np.arange(600) % 3
    temperatures = calibration(probabilities, target, fold=fold)["temperature"]["by_fold"]
    changed = target.copy()
    changed[fold == 1] = (target[fold == 1] + 1) % 4
    again = calibration(probabilities, changed, fold=fold)["temperature"]["by_fold"]
    assert again["1"] == temperatures["1"] and again["0"] != temperatures["0"]


def test_no_clips_have_no_calibration():
    numbers = calibration(np.zeros((0, 3)), np.zeros(0, int))
    assert numbers == {"ece": None, "brier": None, "cross_entropy": None, "bins": []}
