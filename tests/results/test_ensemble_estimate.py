"""The score of an ensemble on new speakers, from the fold records of the search: cases by hand, and what it warns of."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from w2v2.config.finetune import FinetuneConfig
from w2v2.results.ensemble_estimate import ensemble_estimate
from w2v2.results.ensembles import ensemble_lines
from w2v2.search.fold_store import FoldStore
from w2v2.search.summary import predictions_table
from w2v2.storage import run_directory
from w2v2.training.fold_result import FoldScore

CLASSES = ["a", "b"]
CLIPS = pa.table(
    {
        "clip_id": [f"{i:02}" for i in range(30)],
        "speaker": [f"s{i // 5}" for i in range(30)],
        "fold": [i // 10 for i in range(30)],
        "label": [CLASSES[i % 2] for i in range(30)],
    }
)
TARGET = np.arange(30) % 2
NUM_RIGHT = [[9, 1, 1], [1, 8, 2], [4, 4, 7]]
"""Of the ten clips of each fold, by trial: those of tests/evaluation/test_selection.py, worked out there by hand."""
SURE = [0.9, 0.4, 0.4]
"""The probability of the target by each of three seeds: the first is right, and so is the average with it."""


def probabilities(of_target: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows with this probability of their clip's class."""
    return np.where(np.eye(2)[TARGET[rows]] == 1, of_target[:, None], 1 - of_target[:, None])


def write_search(folder: Path, **metrics) -> str:
    """A search of three folds and three trials, after which three seeds were trained."""
    folds = np.asarray(CLIPS["fold"])
    scores = {}
    for trial, by_fold in enumerate(NUM_RIGHT):
        for fold, num_right in enumerate(by_fold):
            rows = np.flatnonzero(folds == fold)
            sure = np.where(np.arange(10) < num_right, 0.8, 0.3)
            scores[trial, fold] = FoldScore(
                fold=fold,
                clip_ids=CLIPS["clip_id"].take(rows).to_pylist(),
                targets=TARGET[rows],
                probabilities=probabilities(sure, rows),
                loss=1.0,
                num_train=20,
                seconds=1.0,
                curve=[],
            )
            FoldStore(str(folder)).write(trial, scores[trial, fold])
    best = predictions_table([scores[0, fold] for fold in range(3)], CLIPS, CLASSES)
    run_directory.write_table(str(folder), "predictions", best)
    trials = pa.table({"trial": range(3), "state": ["COMPLETE"] * 3})
    run_directory.write_table(str(folder), "trials", trials)
    finals = []
    for seed, sure in enumerate(SURE, start=1):
        values = probabilities(np.full(30, sure), np.arange(30))
        columns = {name: CLIPS[name] for name in ("clip_id", "speaker", "fold")} | {"target": CLIPS["label"]}
        columns |= {"predicted": [CLASSES[i] for i in values.argmax(1)], "seed": [seed] * 30}
        finals.append(pa.table(columns | {f"prob_{c}": values[:, i] for i, c in enumerate(CLASSES)}))
    run_directory.write_table(str(folder), "final_predictions", pa.concat_tables(finals))
    search_metrics = {
        "job": "tune_folds",
        "classes": CLASSES,
        "metric": "accuracy",
        "computed_on": "out-of-fold",
        "folds": {"accuracy": {"values": [0.9, 0.1, 0.1]}},
        "estimate": {
            "name": "BBC-CV",
            "metric": "accuracy",
            "num_folds": 3,
            "num_trials": 3,
            "how": "BBC-CV over 3 folds and 3 trials.",
        },
    }
    (folder / "metrics.json").write_text(json.dumps(search_metrics | metrics))
    return str(folder)


def estimated(run: str, **settings) -> dict:
    numbers = ensemble_estimate(FinetuneConfig(tuned_on=run, **settings), CLASSES)
    assert numbers is not None and json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    return numbers


def test_folds_have_the_score_of_the_model_that_lacks_the_speaker_free_of_the_choice_among_ensembles(
    tmp_path,
):
    numbers = estimated(write_search(tmp_path), ensemble="folds", ensemble_size=3)
    # Of each fold .25, .25 and .15 by the enumeration; the ensemble that is chosen, that of trial 2, has .5.
    accuracy = numbers["metrics"]["accuracy"]
    assert accuracy["value"] == pytest.approx((0.25 + 0.25 + 0.15) / 3)
    assert accuracy["low"] < accuracy["value"] < accuracy["high"] and accuracy["se_folds"] > 0
    assert set(numbers["metrics"]) == {"uar", "accuracy", "macro_f1"}
    assert (numbers["num_speakers"], numbers["num_folds"], numbers["num_trials"]) == (6, 3, 3)
    assert numbers["name"] == "BBC-CV, single models" and "score of single models" in numbers["how"]


@pytest.mark.parametrize(
    ("size", "num_averaged", "accuracy"),
    # Averages with the first seed are right: of pairs two of three (.9 and .4 have .65, .4 and .4 have .4), of three
    # the one there is (.57).
    [(2, 2, 2 / 3), (3, 3, 1.0), (5, 3, 1.0)],
)
def test_seeds_have_the_score_of_averages_of_as_many(tmp_path, size, num_averaged, accuracy):
    final = {"seeds": [1, 2, 3], "is_nested": False}
    estimate = {
        "name": "cross-validation with 3 new seeds",
        "metric": "accuracy",
        "num_folds": 3,
        "num_trials": 3,
    }
    run = write_search(tmp_path, final=final, estimate=estimate | {"how": ""})
    numbers = estimated(run, ensemble="seeds", ensemble_size=size)
    assert numbers["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert numbers["num_averaged"] == num_averaged
    assert numbers["name"] == f"cross-validation with 3 new seeds, {num_averaged} averaged"
    assert ("the search trained 3" in numbers["how"]) == (size > 3)


def test_seeds_without_new_seeds_in_the_search_have_the_score_of_single_models(tmp_path):
    numbers = estimated(write_search(tmp_path), ensemble="seeds")
    assert numbers["num_averaged"] == 1 and "--search.final_seeds estimates the average" in numbers["how"]
    assert numbers["metrics"] == estimated(str(tmp_path), ensemble="folds")["metrics"]


def test_what_has_no_estimate_is_a_warning(tmp_path, caplog):
    run = write_search(tmp_path / "a")
    config = FinetuneConfig(tuned_on=run, ensemble="folds")
    assert ensemble_estimate(FinetuneConfig(ensemble="folds"), CLASSES) is None and not caplog.text
    assert ensemble_estimate(config, ["a", "b", "c"]) is None
    assert "is no search of the classes a, b, c" in caplog.text
    (tmp_path / "a" / "ledger" / "trial-00002-fold-01.parquet").unlink()
    assert ensemble_estimate(config, CLASSES) is None
    assert "ledger has no undamaged record of trial 2, fold 1" in caplog.text
    gone = FinetuneConfig(tuned_on=str(tmp_path / "gone"), ensemble="folds")
    assert ensemble_estimate(gone, CLASSES) is None
    assert "gone is not a finished run" in caplog.text


def test_it_is_the_first_line_of_the_ensemble(tmp_path):
    estimate = estimated(write_search(tmp_path), ensemble="folds")
    pooled = {"uar": 0.5, "intervals": {"uar": None}}
    metrics = {"kind": "classes", "chance_uar": 0.5, "pooled": pooled}
    metrics |= {"ensemble": {"estimate": estimate, "members": [{"pooled": pooled}] * 2}}
    score = estimate["metrics"]["accuracy"]
    within = f"[{score['low']:.3f}, {score['high']:.3f}]"
    assert ensemble_lines(metrics) == [
        f"to expect on new speakers: accuracy 0.217 {within}, BBC-CV, single models",
        "UAR of each of its 2 models: 50.0%, 50.0%",
    ]
