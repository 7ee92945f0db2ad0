"""The estimate of a search against scikit-learn on a table of mixed predictions, and its invariances."""

import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from w2v2.evaluation.selection import trial_shares
from w2v2.search import summary
from w2v2.search.estimate import estimate, search_scored
from w2v2.training.fold_result import FoldScore

CLASSES = ["a", "b", "c"]
NUM_FOLDS, SPEAKERS_EACH, CLIPS_EACH, NUM_TRIALS = 4, 3, 7, 3
FOLDS = range(NUM_FOLDS)
CLIPS = pa.table(
    {
        "clip_id": [f"{s}/{i}" for s in range(NUM_FOLDS * SPEAKERS_EACH) for i in range(CLIPS_EACH)],
        "speaker": [f"{s:02}" for s in range(NUM_FOLDS * SPEAKERS_EACH) for _ in range(CLIPS_EACH)],
        "fold": [s // SPEAKERS_EACH for s in range(NUM_FOLDS * SPEAKERS_EACH) for _ in range(CLIPS_EACH)],
    }
)


def fold_score(trial, fold):
    """Held-out predictions in an order of their own; fold 1 lacks the third class."""
    ids = CLIPS["clip_id"].filter(pa.array([f == fold for f in CLIPS["fold"].to_pylist()])).to_pylist()
    targets = np.random.default_rng(fold).integers(2 if fold == 1 else 3, size=len(ids))
    rng = np.random.default_rng((trial, fold))
    predicted = np.where(rng.random(len(ids)) < 0.5, targets, rng.integers(3, size=len(ids)))
    order = rng.permutation(len(ids))
    return FoldScore(
        fold=fold,
        clip_ids=[ids[i] for i in order],
        targets=targets[order],
        probabilities=np.eye(3)[predicted[order]],
        loss=1.0,
        num_train=1,
        seconds=1.0,
        curve=[],
    )


@pytest.fixture(scope="module")
def scores():
    return {(t, f): fold_score(t, f) for t in range(NUM_TRIALS) for f in FOLDS}


def scored(scores, complete, metric="uar"):
    return search_scored(
        scores, complete, clips=CLIPS, classes=CLASSES, metric=metric, num_folds=NUM_FOLDS, seed=0
    )


def estimated(scores, complete, *, num_trials, metric="uar"):
    best = {"accuracy": 0.7, "uar": 0.7, "macro_f1": None}
    return estimate(
        scored(scores, complete, metric),
        metric=metric,
        num_folds=NUM_FOLDS,
        num_trials=num_trials,
        num_complete=len(complete),
        best=best,
        seed=0,
    )


def mean_f1(target, predicted, weight, model):
    """The F1 of each class is the mean of the trials', weighted by their shares of its clips; the mean over classes."""
    f1, num = [], []
    for trial in range(NUM_TRIALS):
        rows = (model == trial) & (weight > 0)
        if not rows.any():
            continue
        args = dict(sample_weight=weight[rows], average=None, labels=range(3), zero_division=0)
        f1.append(sk.f1_score(target[rows], predicted[rows], **args))
        num.append(np.bincount(target[rows], weight[rows], minlength=3))
    return (np.array(f1) * num).sum(0) @ (1 / np.sum(num, axis=0)) / 3


@pytest.mark.parametrize("metric", ["uar", "accuracy", "macro_f1"])
def test_scores_are_those_of_predictions_weighted_by_how_often_a_trial_is_chosen(scores, metric):
    # Whatever is searched by, all metrics are estimated, from the choice by that metric.
    values = summary.fold_values(scores, [0, 1, 2], CLASSES, metric, NUM_FOLDS)
    shares = trial_shares(values, seed=0)
    target, predicted, weight, model = [], [], [], []
    for (trial, fold), score in scores.items():
        target += score.targets.tolist()
        predicted += score.probabilities.argmax(1).tolist()
        weight += [shares[fold, trial]] * len(score.targets)
        model += [trial] * len(score.targets)
    estimate = estimated(scores, [0, 1, 2], num_trials=5, metric=metric)
    expected = {
        "accuracy": sk.accuracy_score(target, predicted, sample_weight=weight),
        "uar": sk.balanced_accuracy_score(target, predicted, sample_weight=weight),
        "macro_f1": mean_f1(*map(np.array, (target, predicted, weight, model))),
    }
    assert {name: one["value"] for name, one in estimate["metrics"].items()} == pytest.approx(expected)
    assert estimate["metric"] == metric and estimate["name"] == "BBC-CV"
    assert estimate["optimism"] == {
        "accuracy": pytest.approx(0.7 - expected["accuracy"]),
        "uar": pytest.approx(0.7 - expected["uar"]),
        "macro_f1": None,
    }
    for one in estimate["metrics"].values():
        assert one["low"] < one["value"] < one["high"] and one["se_folds"] > 0 and one["se_speakers"] > 0
    assert (estimate["num_speakers"], estimate["num_folds"], estimate["num_trials"]) == (12, 4, 3)
    assert "over 4 folds and 3 complete trials: in all samples" in estimate["how"]
    assert json.loads(json.dumps(estimate, allow_nan=False)) == estimate


def test_the_order_of_trials_and_of_clips_changes_nothing(scores):
    estimate = estimated(scores, [0, 1, 2], num_trials=3)
    again = estimated(scores, [2, 0, 1], num_trials=3)
    for name, one in estimate["metrics"].items():
        assert again["metrics"][name] == pytest.approx(one)


def test_one_trial_has_its_pooled_score_whatever_folds_lack(scores):
    target = np.concatenate([scores[1, f].targets for f in FOLDS])
    predicted = np.concatenate([scores[1, f].probabilities.argmax(1) for f in FOLDS])
    alone = estimated(scores, [1], num_trials=1)
    assert alone["metrics"]["uar"]["value"] == pytest.approx(sk.balanced_accuracy_score(target, predicted))
    assert alone["name"] == "cross-validation" and "have chosen nothing" in alone["how"]
    left = estimated(scores, [1], num_trials=7)
    assert left["name"] == "one complete trial" and left["metrics"] == alone["metrics"]
    # Copies of a trial are no choice either.
    copies = {(t, f): scores[1, f] for t in range(4) for f in FOLDS}
    assert estimated(copies, [0, 1, 2, 3], num_trials=4)["metrics"]["uar"]["value"] == pytest.approx(
        alone["metrics"]["uar"]["value"]
    )
