"""Scores of single folds against scikit-learn, and intervals over their speakers against the usual standard error."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn import metrics as sk

from w2v2.evaluation.fold_scores import fold_intervals, over_folds

CLASSES = ["a", "b"]


def test_each_fold_has_an_interval_over_its_own_speakers():
    # Fold 0 has six speakers, fold 1 has four.
    rng = np.random.default_rng(4)
    speaker = np.repeat(np.arange(10), 30)
    target = rng.choice(CLASSES, 300)
    predicted = np.where(rng.random(300) < 0.7, target, "a")
    fold = (speaker >= 6).astype(int)
    table = pa.table({"speaker": speaker.astype(str), "target": target, "predicted": predicted, "fold": fold})
    first, second = fold_intervals(table, "classes", CLASSES, seed=0)
    for row, part in zip((first, second), (fold == 0, fold == 1), strict=True):
        uar = sk.balanced_accuracy_score(target[part], predicted[part])
        assert row["uar"].value == pytest.approx(uar) and row["uar"].se_folds is None
    # The standard error of six speakers' mean, by another way: their own accuracies.
    each = [(predicted == target)[speaker == s].mean() for s in range(6)]
    half = stats.t.ppf(0.975, 5) * np.std(each, ddof=1) / np.sqrt(6)
    low, high = first["accuracy"].between
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    assert second["uar"].between is None and second["uar"].undefined == "4 speakers"
    rows = [{"uar": 0.5, "accuracy": 0.25}, {"uar": None, "accuracy": 0.75}]
    spread = over_folds(rows, [first, second])
    assert spread["uar"]["intervals"] == [first["uar"].between, None]
    assert spread["uar"]["undefined"] == ["", "4 speakers"]
    assert spread["accuracy"]["mean"] == 0.5 and spread["uar"]["mean"] == 0.5
