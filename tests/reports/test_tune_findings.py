"""Findings against arithmetic by hand, and against a run whose score follows one field."""

from dataclasses import replace

import pyarrow as pa
import pytest

from tests.made.tune_run import SPACE, write_run
from w2v2.reports import tune_findings
from w2v2.reports.run_files import TuneRun, read_tune_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TuneRun:
    return read_tune_run(str(write_run(tmp_path_factory.mktemp("run"))))


def test_importance_finds_the_field_that_the_score_follows(run: TuneRun) -> None:
    shares, note = tune_findings.importances(run.trials, run.space, metric="uar")
    assert set(shares) == set(SPACE) and sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == "optim.learning_rate"
    assert note == "Computed from 8 complete trials; below about 30 it is a rough guide."


def test_importance_takes_whole_numbers_and_values_outside_the_space() -> None:
    rows = [
        {
            "trial": i,
            "state": "COMPLETE",
            "uar_mean": 0.1 * i,
            "params_a": 2 + i,
            "params_b": 0.5,
            "params_c": "x",
        }
        for i in range(7)
    ]
    dimensions = {
        "a": {"low": 3.0, "high": 5.0},
        "b": {"low": 0.1, "high": 1.0},
        "c": {"choices": ["x", "y"]},
    }
    shares, _ = tune_findings.importances(pa.Table.from_pylist(rows), dimensions, metric="uar")
    assert shares == {"a": 1.0}


@pytest.mark.parametrize(
    ("scores", "values", "reason"),
    [
        ([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0], "it needs 5 complete trials, there are 4"),
        ([0.3] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "all complete trials score the same"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [1.0] * 5, "no hyperparameter took two values"),
    ],
)
def test_importance_that_cannot_be_computed_says_why(
    scores: list[float], values: list[float], reason: str
) -> None:
    rows = [
        {"trial": i, "state": "COMPLETE", "uar_mean": score, "params_a": value}
        for i, (score, value) in enumerate(zip(scores, values, strict=True))
    ]
    shares, note = tune_findings.importances(
        pa.Table.from_pylist(rows), {"a": {"low": 1.0, "high": 9.0}}, metric="uar"
    )
    assert shares == {} and note == f"Hyperparameter importance is undefined: {reason}."


def test_ties_are_the_trials_within_two_standard_errors_of_the_best() -> None:
    best = [0.5, 0.6, 0.7, 0.6]
    others = {1: [0.52, 0.57, 0.71, 0.59], 2: [0.4, 0.5, 0.61, 0.5], 3: [0.6, 0.6, 0.7, 0.6]}
    folds = [
        {"trial": trial, "fold": fold, "uar": score}
        for trial, scores in ({0: best} | others).items()
        for fold, score in enumerate(scores)
    ]
    trials = [{"trial": i, "state": "PRUNED" if i == 3 else "COMPLETE"} for i in range(4)]
    # Trial 2 loses 0.0975 with a standard error of 0.0025, trial 1 loses 0.0025 +- 0.011, trial 3 was pruned.
    assert tune_findings.ties(
        pa.Table.from_pylist(folds), pa.Table.from_pylist(trials), best=0, metric="uar"
    ) == [1]


def test_luck_of_one_speaker_is_that_of_the_mean_score(run: TuneRun) -> None:
    by_speaker = {name: {"uar": uar, "num_clips": 4} for name, uar in {"a": 1.0, "b": 1.0, "c": 0.5}.items()}
    sentence = tune_findings.spread(replace(run, metrics=run.metrics | {"by_speaker": by_speaker}))
    half = 196 * (5 / 6 * 1 / 6 / 4) ** 0.5
    assert f"With 4 clips a speaker, luck alone moves the score of one by about {half:.0f} points" in sentence
