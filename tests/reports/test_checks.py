"""Each check against a run where it holds and one where it does not."""

import re
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from tests.made.tune_run import write_run
from w2v2.reports.checks import tune_checks
from w2v2.reports.estimate import chance_level
from w2v2.reports.run_files import TuneRun, read_tune_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TuneRun:
    return read_tune_run(str(write_run(tmp_path_factory.mktemp("run"))))


def _care(run: TuneRun) -> str:
    return " ".join(check.text for check in tune_checks(run) if not check.is_good)


def _with(run: TuneRun, section: str, **values: Any) -> TuneRun:
    return replace(run, metrics=run.metrics | {section: run.metrics[section] | values})


def test_an_encoder_that_saw_the_speakers_in_training_asks_for_care(run: TuneRun) -> None:
    assert "used to train the encoder" not in _care(run)
    assert "used to train the encoder" not in _care(_with(run, "encoder", seen_in_training=""))
    cares = _care(_with(run, "encoder", seen_in_training="4 of the speakers and 9 of the clips"))
    assert (
        "The encoder that this run began with: 4 of the speakers and 9 of the clips were used to train the encoder."
        in cares
    )


def test_checks_that_fail_are_named(run: TuneRun) -> None:
    torn = run.manifest.to_pylist()
    torn[0] |= {"fold": 5, "audio_digest": torn[-1]["audio_digest"]}
    torn[-1] |= {"fold": 4}
    care = _care(replace(run, manifest=pa.Table.from_pylist(torn)))
    assert "Not speaker-independent: these speakers are in more than one fold: 01, 24." in care
    assert "Recordings with an exact copy in another fold: 1." in care
    assert "random weights" in _care(_with(run, "encoder", name="tiny"))
    made_up = replace(run, config=run.config | {"data": {"uri": "demo"}})
    assert "synthetic speakers" in _care(made_up) and "random weights" not in _care(made_up)
    low = _with(run, "pooled", intervals={"uar": [0.1, 0.6]})
    assert (
        "The 95% interval of UAR reaches down to 10.0%; a model that learned nothing scores 12.5%."
        in _care(low)
    )
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
    assert chance_level(metrics_of_run, "uar") == 0.125
    # Always class 1: 6 of 10 clips right; F1 of class 1 is 12 / 16, of class 0 zero, of class 2 not defined.
    assert chance_level(metrics_of_run, "accuracy") == pytest.approx(0.6)
    assert chance_level(metrics_of_run, "macro_f1") == pytest.approx(12 / 16 / 2)
