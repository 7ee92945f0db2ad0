"""The reliability diagram has the bins of the calibration where they belong."""

import numpy as np
import pytest

from w2v2.evaluation.calibration import calibration
from w2v2.reports.plots.calibration import reliability


@pytest.mark.parametrize("folds", [None, 3])
def test_each_bin_is_a_dot_before_and_after_a_temperature(folds):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(3, 0.6), 300)
    target = rng.integers(0, 3, 300)
    numbers = calibration(probabilities, target, fold=None if folds is None else np.arange(300) % folds)
    axes = reliability(numbers).axes[0]
    drawn = [dots.get_offsets().data for dots in axes.collections]
    wanted = [numbers["bins"]] + ([numbers["temperature"]["bins"]] if folds else [])
    assert len(drawn) == len(wanted)
    for dots, bins in zip(drawn, wanted, strict=True):
        np.testing.assert_allclose(dots, [(100 * row["confidence"], 100 * row["accuracy"]) for row in bins])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["as predicted", "with the temperature"][: len(wanted)]
