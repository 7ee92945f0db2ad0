"""jobs/tune_folds.py where heads alone are trained: what the cache has needs neither Ray nor transformers."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from tests import ROOT
from tests.jobs.searches import make_config, table
from w2v2.config import command_line
from w2v2.config.data import DataConfig, FoldsConfig
from w2v2.config.model import EncoderConfig
from w2v2.evaluation import learning_curve
from w2v2.evaluation.recording_quality import recording_warnings
from w2v2.jobs import tune_folds
from w2v2.results.compared_runs import read_run, scored_run

THREE = FoldsConfig(kind="grouped", num_folds=3)
"""Fewer than the published six: a quarter of the trainings, and each kind of training still has a number of its own."""

AGAIN = """
import sys
from w2v2.jobs import tune_folds
from w2v2.config import command_line
code = command_line.run_job(tune_folds.main, tune_folds.TuneFoldsConfig, sys.argv[1:])
print(code, [name for name in ("ray", "transformers") if name in sys.modules])
"""


def test_what_the_cache_has_is_searched_without_ray(tmp_path, two_emotions):
    config = make_config(tmp_path, two_emotions, encoder=EncoderConfig(train="head"), folds=THREE)
    first = tune_folds.main(replace(config, local=True))
    assert first["trunk"]["clip_forwards"] == 48
    again = replace(config, run=str(tmp_path / "again"))
    (tmp_path / "again.yaml").write_text(command_line.dump(again))
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, "--config", str(tmp_path / "again.yaml")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "all 48 clips are in the cache" in done.stdout + done.stderr
    second = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert second["trunk"] == {"clip_forwards": 0, "num_clips": 48, "reused": 48}
    for name in ("pooled", "params", "trial", "folds"):
        assert second[name] == first[name]
    # What is trained after a search is its first number then.
    for changes, name, seeds in (
        (dict(final_seeds=2), "cross-validation with 2 new seeds", [1, 2]),
        (dict(nested=True), "nested cross-validation", [0]),
    ):
        before = len(list((tmp_path / "again" / "ledger").iterdir()))
        third = tune_folds.main(replace(again, search=replace(again.search, **changes)))
        assert third["estimate"]["name"] == name and third["final"]["seeds"] == seeds
        assert third["pooled"] == first["pooled"] and third["made"] == second["made"]
        predictions = table(tmp_path / "again", "final_predictions")
        assert len(predictions) == len(seeds) * 48
        target, predicted = (predictions[column].to_pylist() for column in ("target", "predicted"))
        value = third["estimate"]["metrics"]["uar"]["value"]
        assert value == pytest.approx(balanced_accuracy_score(target, predicted))
        compared = scored_run(read_run(str(tmp_path / "again")), first["classes"], seed=0)
        assert compared.values(np.ones((1, 24)))["uar"][0] == pytest.approx(value)
        page = (tmp_path / "again" / "report.html").read_text()
        assert f"UAR, {name}; 95% interval" in page and "Trained after the search" in page
        after = len(list((tmp_path / "again" / "ledger").iterdir()))
        assert after - before == (2 * 3 if "final_seeds" in changes else 3 * 2 * 2 + 3)


def test_would_more_speakers_help_and_are_the_recordings_good(tmp_path, corpus, caplog):
    dropped = dict.fromkeys(("neutral", "happy", "angry", "fearful", "disgust", "surprised"), "drop")
    data = DataConfig(uri=str(corpus), classes=dropped)
    config = make_config(
        tmp_path, corpus, encoder=EncoderConfig(train="head"), local=True, data=data, folds=THREE
    )
    caplog.set_level("INFO", logger="w2v2")
    asked = replace(config, search=replace(config.search, learning_curve=True))
    metrics = tune_folds.main(asked)
    curve = metrics["learning_curve"]
    assert [point["num_speakers"] for point in curve["points"]] == [4, 8, 12, 16]
    assert all(
        low <= point["value"] <= high for point in curve["points"] for low, high in [point["interval"]]
    )
    rows = table(tmp_path / "run", "learning_curve")
    assert len(rows) == 3 * 4 * 3 and set(rows["num_train"].to_pylist()) == {8, 16, 24, 32}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Would more speakers help?" in page and learning_curve.sentence(curve) in page
    assert learning_curve.sentence(curve) in caplog.text
    # A command without it, given later, leaves it on the page and trains nothing.
    ledger = sorted((tmp_path / "run" / "ledger").iterdir())
    again = tune_folds.main(config)
    assert again["learning_curve"] == curve
    assert "Would more speakers help?" in (tmp_path / "run" / "report.html").read_text()
    assert sorted((tmp_path / "run" / "ledger").iterdir()) == ledger
    # Its recordings are of one channel, and the page says how good they are.
    assert recording_warnings(metrics["recordings"]) == [] and metrics["recordings"]["num_measured"] == 48
    assert metrics["recordings"]["by_class"]["bandwidth_hz"]["difference"] < 500
    assert "Recording quality" in page and "The recordings are wideband" in page
