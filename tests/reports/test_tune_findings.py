"""Findings against arithmetic by hand, and against a run whose score follows one field."""

import re
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from tests.made.tune_run import SPACE, write_run
from w2v2.reports import tune_findings
from w2v2.reports.tune_run import TuneRun, read_tune_run


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


def _care(run: TuneRun) -> str:
    return " ".join(check.text for check in tune_findings.checks(run) if not check.is_good)


def _with(run: TuneRun, section: str, **values: Any) -> TuneRun:
    return replace(run, metrics=run.metrics | {section: run.metrics[section] | values})


def test_luck_of_one_speaker_is_that_of_the_mean_score(run: TuneRun) -> None:
    by_speaker = {name: {"uar": uar, "num_clips": 4} for name, uar in {"a": 1.0, "b": 1.0, "c": 0.5}.items()}
    said = tune_findings.spread(replace(run, metrics=run.metrics | {"by_speaker": by_speaker}))
    half = 196 * (5 / 6 * 1 / 6 / 4) ** 0.5
    assert f"With 4 clips a speaker, luck alone moves the score of one by about {half:.0f} points" in said


def test_an_encoder_that_heard_the_speakers_is_a_care(run: TuneRun) -> None:
    assert "trained the encoder" not in _care(run)
    assert "trained the encoder" not in _care(_with(run, "encoder", heard=""))
    cares = _care(_with(run, "encoder", heard="4 of the speakers and 9 of the clips"))
    assert "4 of the speakers and 9 of the clips trained the encoder that this began with" in cares


def test_checks_that_fail_are_named(run: TuneRun) -> None:
    torn = run.manifest.to_pylist()
    torn[0] |= {"fold": 5, "audio_digest": torn[-1]["audio_digest"]}
    torn[-1] |= {"fold": 4}
    care = _care(replace(run, manifest=pa.Table.from_pylist(torn)))
    assert "Not speaker-independent: in more than one fold are the speakers 01, 24." in care
    assert "Recordings with an exact copy in another fold: 1." in care
    assert "random weights" in _care(_with(run, "encoder", name="tiny"))
    made_up = replace(run, config=run.config | {"data": {"uri": "demo"}})
    assert "made-up talkers" in _care(made_up) and "random weights" not in _care(made_up)
    low = _with(run, "pooled", intervals={"uar": [0.1, 0.6]})
    assert "The 95% interval reaches down to 10.0%; chance is 12.5%." in _care(low)
    assert "10.0%, below the 95% interval: the search has fitted the folds." in _care(
        _with(run, "selection", nested=0.1)
    )
    assert "only 7 speakers and is itself rough" in _care(_with(run, "data", num_speakers=7))
    many = pa.concat_tables([run.rejects] * 20)
    assert "40 of 1480 clips could not be used (2.7%)." in _care(replace(run, rejects=many))
    stale = replace(run, predictions=run.predictions.slice(1))
    assert re.search(
        r"predictions.parquet has \d+ of 1439 clips right, metrics.json \d+ of 1440", _care(stale)
    )


def test_chance_is_that_of_the_metric(run: TuneRun) -> None:
    confusion = [[3, 1], [5, 1], [0, 0]]
    metrics_of_run = run.metrics | {"pooled": {"confusion": [[*row, 0] for row in confusion]}}
    assert tune_findings.chance_level(metrics_of_run, "uar") == 0.125
    # Always class 1: 6 of 10 clips right; F1 of class 1 is 12 / 16, of class 0 zero, of class 2 not defined.
    assert tune_findings.chance_level(metrics_of_run, "accuracy") == pytest.approx(0.6)
    assert tune_findings.chance_level(metrics_of_run, "macro_f1") == pytest.approx(12 / 16 / 2)
