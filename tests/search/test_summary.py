"""The tables and numbers of a search against scikit-learn and against sums by hand."""

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from optuna.distributions import FloatDistribution
from sklearn import metrics as sk

from w2v2.evaluation import classification
from w2v2.search import summary
from w2v2.training.fold_result import Epoch, FoldScore

CLASSES = ["a", "b", "c"]
NUM_FOLDS, NUM_HELD_OUT = 2, 11


def fold_score(trial, fold, *, skill=0.5, num_epochs=3):
    """Held-out predictions that are right more often than not; targets are the same in every trial."""
    targets = np.random.default_rng(100 + fold).integers(3, size=NUM_HELD_OUT)
    rng = np.random.default_rng((trial, fold))
    logits = rng.normal(0, 1, (NUM_HELD_OUT, 3))
    logits[np.arange(NUM_HELD_OUT), targets] += 4 * skill
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    curve = [
        Epoch(epoch=e, train_loss=1.0 / e, train_uar=0.3 * e, learning_rate=0.1 / e)
        for e in range(1, num_epochs + 1)
    ]
    # Clips by length, not in the manifest's order.
    clip_ids = [f"{fold}/{i}" for i in rng.permutation(NUM_HELD_OUT)]
    return FoldScore(
        fold=fold,
        clip_ids=clip_ids,
        targets=targets,
        probabilities=probabilities,
        loss=0.7,
        num_train=20,
        seconds=4.0,
        curve=curve,
    )


def trial(number, *, state="COMPLETE", value=None, error=None):
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        value=value if state == "COMPLETE" else None,
        params={"optim.weight_decay": 0.1 * (number + 1)},
        distributions={"optim.weight_decay": FloatDistribution(0, 1)},
        user_attrs={} if error is None else {"error": error},
    )


def numbered(*trials):
    for number, one in enumerate(trials):
        one.number = number
    return list(trials)


@pytest.fixture
def scores():
    return {(t, f): fold_score(t, f) for t in range(2) for f in range(NUM_FOLDS)}


def expected(score):
    predicted = score.probabilities.argmax(1)
    return {
        "uar": sk.balanced_accuracy_score(score.targets, predicted),
        "accuracy": sk.accuracy_score(score.targets, predicted),
        "macro_f1": sk.f1_score(score.targets, predicted, average="macro"),
    }


def test_folds_have_the_scores_of_scikit_learn(scores):
    rows = summary.folds_table(scores, CLASSES).to_pylist()
    assert [(row["trial"], row["fold"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row in rows:
        score = scores[row["trial"], row["fold"]]
        assert {name: row[name] for name in classification.METRICS} == pytest.approx(expected(score))
        assert (row["loss"], row["train_loss"], row["num_train"]) == (0.7, pytest.approx(1 / 3), 20)
        # Three epochs over 20 clips and one look at 11, in 4 seconds.
        assert row["num_held_out"] == 11 and row["clips_per_s"] == (3 * 20 + 11) / 4
        assert row["state"] == "done" and row["seconds"] == 4.0


def test_a_class_without_clips_has_no_part_in_the_scores():
    score = fold_score(0, 0)
    score.targets[score.targets == 2] = 1
    score.probabilities[:, 2] = 0
    metrics = summary.fold_metrics(score, CLASSES)
    assert metrics["uar"] == pytest.approx(expected(score)["uar"])


def test_curves_have_a_row_per_epoch(scores):
    table = summary.curves_table(scores)
    assert table.num_rows == 4 * 3
    row = table.filter((pc.field("trial") == 1) & (pc.field("epoch") == 2)).to_pylist()[0]
    expected = {"trial": 1, "fold": 0, "epoch": 2, "train_loss": 0.5, "train_uar": 0.6, "learning_rate": 0.05}
    assert {name: row[name] for name in expected} == expected


def test_trials_have_mean_and_deviation_over_the_folds_they_ran(scores):
    del scores[1, 1]
    trials = numbered(
        trial(0, value=0.5), trial(1, state="PRUNED"), trial(2, state="FAIL", error="no memory")
    )
    table = summary.trials_table(trials, summary.folds_table(scores, CLASSES))
    first, pruned, failed = table.to_pylist()
    for name in classification.METRICS:
        values = [expected(scores[0, fold])[name] for fold in range(NUM_FOLDS)]
        assert first[f"{name}_mean"] == pytest.approx(np.mean(values))
        assert first[f"{name}_std"] == pytest.approx(np.std(values, ddof=1))
        assert pruned[f"{name}_mean"] == pytest.approx(expected(scores[1, 0])[name])
        assert pruned[f"{name}_std"] is None and failed[f"{name}_mean"] is None
    assert [row["folds_done"] for row in (first, pruned, failed)] == [2, 1, 0]
    assert [row["seconds"] for row in (first, pruned, failed)] == [8.0, 4.0, 0.0]
    assert [row["state"] for row in (first, pruned, failed)] == ["COMPLETE", "PRUNED", "FAIL"]
    assert [row["error"] for row in (first, pruned, failed)] == ["", "", "no memory"]
    assert failed["params_optim.weight_decay"] == pytest.approx(0.3)


def test_predictions_follow_the_manifest_whatever_the_order_of_the_folds(scores):
    clip_ids = [f"{fold}/{i}" for i in range(NUM_HELD_OUT) for fold in range(NUM_FOLDS)]
    labels = [CLASSES[int(i) % 3] for i in range(len(clip_ids))]
    folds = [int(clip_id[0]) for clip_id in clip_ids]
    clips = pa.table({"clip_id": clip_ids, "speaker": labels, "fold": folds, "label": labels})
    table = summary.predictions_table([scores[0, 0], scores[0, 1]], clips, CLASSES)
    columns = ["clip_id", "speaker", "fold", "target", "predicted", "prob_a", "prob_b", "prob_c"]
    assert table.column_names == columns
    for row in table.to_pylist():
        score = scores[0, row["fold"]]
        probabilities = score.probabilities[score.clip_ids.index(row["clip_id"])]
        assert [row[f"prob_{name}"] for name in CLASSES] == probabilities.tolist()
        assert row["predicted"] == CLASSES[probabilities.argmax()]
    assert table["clip_id"].to_pylist() == clip_ids and table["target"].to_pylist() == labels


def test_nested_score_takes_for_each_fold_the_trial_best_on_the_others():
    # Trial 0 is good on fold 0 alone, trial 1 on fold 1 alone: each is chosen for the fold it is bad at.
    skills = {(0, 0): 5.0, (0, 1): -5.0, (1, 0): -5.0, (1, 1): 5.0}
    scores = {key: fold_score(*key, skill=skill) for key, skill in skills.items()}
    assert summary.nested_score(scores, [0, 1], CLASSES, "uar", NUM_FOLDS) == 0.0
    # A third trial, fair on both, is never the best on the other fold.
    scores |= {(2, fold): fold_score(2, fold, skill=0.5) for fold in range(NUM_FOLDS)}
    assert summary.nested_score(scores, [0, 1, 2], CLASSES, "uar", NUM_FOLDS) == 0.0
    pooled = [
        np.concatenate([getattr(scores[2, f], name) for f in range(2)])
        for name in ("targets", "probabilities")
    ]
    score = summary.nested_score(
        scores | {(0, 1): scores[2, 1], (0, 0): scores[2, 0]}, [0, 2], CLASSES, "uar", 2
    )
    assert score == pytest.approx(sk.balanced_accuracy_score(pooled[0], pooled[1].argmax(1)))


def test_nested_score_needs_two_complete_trials(scores):
    assert summary.nested_score(scores, [0], CLASSES, "uar", NUM_FOLDS) is None


def test_best_trial_is_the_earliest_of_the_highest_that_are_complete():
    trials = numbered(
        trial(0, state="PRUNED"),
        trial(1, value=0.4),
        trial(2, value=0.6),
        trial(3, value=0.6),
        trial(4, state="FAIL"),
    )
    assert summary.best_trial(trials, "uar").number == 2
    assert summary.best_trial(trials[:1], "uar") is None
