"""Scores of classes against scikit-learn, and their intervals against resampling clip by clip."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import precision_recall_fscore_support

from w2v2.evaluation.bootstrap import NUM_SAMPLES, drawn
from w2v2.evaluation.class_scores import CLASS_METRICS, class_intervals

CLASSES = ["a", "b", "c", "never"]


def predictions(num_speakers: int = 9, *, with_folds: bool = False) -> pa.Table:
    rng = np.random.default_rng(3)
    rows = []
    for speaker in range(num_speakers):
        for _ in range(12):
            target = CLASSES[rng.integers(3)]
            predicted = target if rng.random() < 0.3 + 0.06 * speaker else CLASSES[rng.integers(3)]
            row = {"speaker": f"s{speaker}", "target": target, "predicted": predicted}
            rows.append(row | ({"fold": speaker % 3} if with_folds else {}))
    return pa.Table.from_pylist(rows)


def sklearn_scores(table: pa.Table, rows: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
    target, predicted = (np.array(table[name].to_pylist())[rows] for name in ("target", "predicted"))
    scores = precision_recall_fscore_support(target, predicted, labels=CLASSES, zero_division=np.nan)
    return dict(zip(CLASS_METRICS, scores[:3], strict=True))


def test_values_are_those_of_scikit_learn() -> None:
    table = predictions()
    scores_by_class, expected = class_intervals(table, CLASSES, seed=0), sklearn_scores(table)
    for metric in CLASS_METRICS:
        values = [np.nan if (v := scores_by_class[name][metric].value) is None else v for name in CLASSES]
        assert values == pytest.approx(expected[metric], nan_ok=True)
    assert scores_by_class["never"]["recall"].value is None and scores_by_class["never"]["f1"].between is None


def test_standard_errors_are_those_of_whole_speakers_drawn_with_replacement() -> None:
    table = predictions()
    speaker = np.array(table["speaker"].to_pylist())
    places = [np.flatnonzero(speaker == name) for name in np.unique(speaker)]
    samples = []
    for counts in drawn(9, num_samples=NUM_SAMPLES, seed=5):
        rows = np.concatenate([np.tile(place, n) for place, n in zip(places, counts, strict=True)])
        samples.append(sklearn_scores(table, rows)["precision"][1])
    expected = np.std(samples) * np.sqrt(9 / 8)
    assert class_intervals(table, CLASSES, seed=5)["b"]["precision"].se_speakers == pytest.approx(expected)


def test_folds_count_where_every_fold_has_a_model_of_its_own() -> None:
    plain, folded = (
        class_intervals(predictions(with_folds=f), CLASSES, seed=0)["a"]["recall"] for f in (0, 1)
    )
    assert plain.se_folds is None and folded.se_folds is not None
    assert folded.between[0] <= plain.between[0] and folded.between[1] >= plain.between[1]


def test_a_class_of_few_speakers_has_no_interval_and_the_order_of_rows_changes_nothing() -> None:
    table = predictions()
    few = [row | {"target": "never"} if row["speaker"] in ("s1", "s2") else row for row in table.to_pylist()]
    interval = class_intervals(pa.Table.from_pylist(few), CLASSES, seed=0)["never"]["recall"]
    assert interval.value == 0.0 and interval.between is None and interval.undefined == "2 speakers"
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    assert class_intervals(mixed, CLASSES, seed=0) == class_intervals(table, CLASSES, seed=0)
