"""Scores of a predictions table are those of scikit-learn and of the parts they are made of; lines for people."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn import metrics as sk

from w2v2.evaluation import multi_label, regression
from w2v2.evaluation.bootstrap import intervals
from w2v2.evaluation.scores import (
    columns,
    score_lines,
    score_predictions,
    scored,
)

CLASSES = ["a", "b", "c", "d"]


def class_table(num_clips=61):
    rng = np.random.default_rng(2)
    target = rng.choice(CLASSES[:3], num_clips)
    predicted = np.where(rng.random(num_clips) < 0.6, target, rng.choice(["a", "d"], num_clips))
    speaker = rng.integers(5, size=num_clips).astype(str)
    return pa.table({"speaker": speaker, "target": target, "predicted": predicted})


def number_table(prefix, names, *, missing):
    """Targets of 0 and 1, or numbers, with nulls, and predictions."""
    rng = np.random.default_rng(3)
    target = rng.normal(0, 1, (53, len(names)))
    predicted = target + rng.normal(0, 1, target.shape)
    target = (target > 0).astype(float) if prefix == "prob" else target
    target[rng.random(target.shape) < missing] = np.nan
    table = {"speaker": rng.integers(6, size=53).astype(str)}
    table |= {
        f"target_{name}": pa.array(t, from_pandas=True) for name, t in zip(names, target.T, strict=True)
    }
    table |= {f"{prefix}_{name}": p for name, p in zip(names, predicted.T, strict=True)}
    return pa.table(table), target, predicted


@pytest.fixture(scope="module")
def of_classes():
    return score_predictions(class_table(), kind="classes", names=CLASSES, seed=1, midpoints=None)


@pytest.fixture(scope="module")
def of_labels():
    table, target, predicted = number_table("prob", ["x", "y"], missing=0.3)
    metrics = score_predictions(table, kind="multi_label", names=["x", "y"], seed=1, midpoints=None)
    return metrics, table, target, predicted


@pytest.fixture(scope="module")
def of_values():
    table, target, predicted = number_table("pred", ["v", "a"], missing=0.1)
    metrics = score_predictions(table, kind="regression", names=["v", "a"], seed=1, midpoints=[0.1, -0.1])
    return metrics, table, target, predicted


def test_scores_are_plain_json_that_comes_back_the_same(of_classes, of_labels, of_values):
    for metrics in (of_classes, of_labels[0], of_values[0]):
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_classes_equal_scikit_learn(of_classes):
    table = class_table().to_pydict()
    pooled = of_classes["pooled"]
    assert pooled["accuracy"] == pytest.approx(sk.accuracy_score(table["target"], table["predicted"]))
    recalls = sk.recall_score(table["target"], table["predicted"], labels=CLASSES[:3], average=None)
    assert pooled["uar"] == pytest.approx(recalls.mean())
    assert pooled["never_predicted"] == [] and pooled["absent"] == ["d"]
    # A model that says one thing always is right for one of the classes that have clips.
    assert of_classes["chance_uar"] == pytest.approx(1 / 3)
    for name, row in of_classes["by_speaker"].items():
        of_speaker = [i for i, speaker in enumerate(table["speaker"]) if speaker == name]
        right = np.mean([table["target"][i] == table["predicted"][i] for i in of_speaker])
        assert (row["num_clips"], row["accuracy"]) == (len(of_speaker), pytest.approx(right))
    low, high = pooled["intervals"]["uar"]
    assert low < pooled["uar"] < high


def test_labels_are_those_of_metrics_multi_with_null_as_missing(of_labels):
    metrics, table, target, predicted = of_labels
    expected = multi_label.scores(target, predicted, ["x", "y"])
    assert {name: metrics["pooled"][name] for name in expected} == expected
    within = intervals(
        multi_label.by_speaker(target, predicted, table["speaker"].to_pylist(), ["x", "y"]), seed=1
    )
    assert metrics["pooled"]["intervals"]["macro_auc"] == within["macro_auc"].between
    assert metrics["pooled"]["intervals"]["labels"]["y"]["auc"] == within["auc:y"].between
    assert metrics["num_clips"] == 53 and metrics["num_speakers"] == 6


def test_values_are_those_of_metrics_regression_and_their_quadrants(of_values):
    metrics, table, target, predicted = of_values
    expected = regression.scores(target, predicted, ["v", "a"])
    assert {name: metrics["pooled"][name] for name in expected} == expected
    expected = regression.quadrants(target, predicted, ["v", "a"], midpoints=[0.1, -0.1])
    assert {name: metrics["quadrants"][name] for name in expected} == expected
    both = ~np.isnan(target).any(1)
    true, guess = (regression.quadrant(values[both], [0.1, -0.1]) for values in (target, predicted))
    assert metrics["quadrants"]["uar"] == pytest.approx(sk.balanced_accuracy_score(true, guess))
    low, high = metrics["quadrants"]["intervals"]["uar"]
    assert low < metrics["quadrants"]["uar"] < high
    without = score_predictions(table, kind="regression", names=["v", "a"], seed=1, midpoints=None)
    assert "quadrants" not in without and without["pooled"] == metrics["pooled"]


def test_another_seed_moves_the_intervals_alone(of_values):
    metrics, table, _, _ = of_values
    other = score_predictions(table, kind="regression", names=["v", "a"], seed=2, midpoints=[0.1, -0.1])
    assert other["pooled"]["intervals"] != metrics["pooled"]["intervals"]
    assert other["pooled"]["mean"] == metrics["pooled"]["mean"]


def test_whole_numbers_with_nulls_are_numbers_with_gaps():
    table = pa.table({"target_x": pa.array([1, None, 0], pa.int64())})
    np.testing.assert_array_equal(columns(table, "target", ["x"]), [[1.0], [np.nan], [0.0]])


def test_without_clips_scores_are_reported_as_undefined():
    table = class_table().slice(0, 0)
    metrics = score_predictions(table, kind="classes", names=CLASSES, seed=0, midpoints=None)
    assert metrics["pooled"]["uar"] is None and metrics["chance_uar"] is None
    assert "uar          undefined  undefined, 0 speakers" in score_lines(metrics)


def test_folds_widen_the_intervals_and_few_speakers_have_none():
    table = class_table()
    fold = [int(speaker) for speaker in table["speaker"].to_pylist()]
    alone, in_folds = (
        score_predictions(t, kind="classes", names=CLASSES, seed=1, midpoints=None)["pooled"]["intervals"]
        for t in (table, table.append_column("fold", pa.array(fold)))
    )
    assert alone["standard_errors"]["uar"]["folds"] is None
    assert in_folds["standard_errors"]["uar"]["folds"] > 0
    four = table.filter(pc.not_equal(table["speaker"], "4"))
    metrics = score_predictions(four, kind="classes", names=CLASSES, seed=1, midpoints=None)
    assert metrics["pooled"]["intervals"]["uar"] is None
    assert metrics["pooled"]["intervals"]["undefined"]["uar"] == "4 speakers"
    assert "  undefined, 4 speakers" in score_lines(metrics)


@pytest.mark.parametrize(
    ("kind", "prefix", "metric"), [("multi_label", "prob", "macro_auc"), ("regression", "pred", "ccc")]
)
def test_where_folds_have_models_of_their_own_labels_and_values_have_their_error_too(kind, prefix, metric):
    table, _, _ = number_table(prefix, ["x", "y"], missing=0.0)
    fold = [int(speaker) // 2 for speaker in table["speaker"].to_pylist()]
    in_folds = scored(table.append_column("fold", pa.array(fold)), kind, ["x", "y"])
    assert [folds.tolist() for folds in in_folds.folds] == [[0, 0, 1, 1, 2, 2]]
    assert (intervals(in_folds, seed=0)[metric].se_folds or 0) > 0
    assert intervals(scored(table, kind, ["x", "y"]), seed=0)[metric].se_folds is None


def test_lines_of_classes(of_classes):
    before = of_classes["pooled"] | {"uar": 0.25, "recall": dict.fromkeys("pqrstu", 0.0)}
    text = score_lines(of_classes | {"computed_on": "the test split", "before_remapping": before})
    pooled = of_classes["pooled"]
    low, high = pooled["intervals"]["uar"]
    assert "scores of the test split\n" in text
    assert f"uar              {pooled['uar']:.3f}      [{low:.3f}, {high:.3f}]" in text
    assert "before remapping, 6 classes: uar 0.250" in text
    assert "chance UAR is 0.333\nwithout clips: d" in text


def test_lines_of_labels_name_the_undefined(of_labels):
    _, table, _, _ = of_labels
    table = table.set_column(1, "target_x", pa.array([1.0] * 53))
    metrics = score_predictions(table, kind="multi_label", names=["x", "y"], seed=1, midpoints=None)
    text = score_lines(metrics)
    row = metrics["pooled"]["labels"]["y"]
    assert "scores of 53 clips of 6 speakers" in text
    counts = "".join(f"  {row[f'num_{count}']:>7}" for count in ("positive", "negative", "missing"))
    assert f"{row['auc']:.3f}" in text and counts in text
    assert (
        "macro and weighted are over 1 of 2 labels\nundefined: x (all 53 labelled clips are positive)" in text
    )


def test_lines_of_values(of_values):
    metrics = of_values[0]
    text = score_lines(metrics)
    low, high = metrics["pooled"]["intervals"]["targets"]["a"]["ccc"]
    assert (
        f"ccc            {metrics['pooled']['targets']['a']['ccc']:.3f}      [{low:.3f}, {high:.3f}]" in text
    )
    assert f"quadrants: accuracy {metrics['quadrants']['accuracy']:.3f}" in text
    assert text.count("rmse") == 3 and "mean" in text
