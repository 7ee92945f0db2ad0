"""jobs/baseline.py, whole: the very folds of jobs/tune_folds.py, and its scores on that job's page."""

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn import metrics as sklearn_metrics

from tests import ROOT
from tests.made.accounting import check_accounts
from tests.made.pictures import no_pictures
from w2v2.config import command_line
from w2v2.config.baseline import BaselineConfig, SvmConfig
from w2v2.config.data import CacheConfig, DataConfig, FoldsConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, OptimConfig, TrainingConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.jobs import baseline, tune_folds


def table(run: str, name: str):
    return pq.read_table(Path(run) / f"{name}.parquet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus, ray_session):
    """The config and metrics of a finished run."""
    tmp_path = tmp_path_factory.mktemp("baseline")
    config = BaselineConfig(
        run=str(tmp_path / "run"),
        data=DataConfig(uri=str(corpus)),
        cache=CacheConfig(uri=str(tmp_path / "cache")),
        svm=SvmConfig(features=("mfcc", "energy"), c=(1.0, 10.0), gamma=(0.0,)),
    )
    return config, baseline.main(config)


def test_run_directory_has_everything_and_a_page(finished):
    config, _ = finished
    run = Path(config.run)
    for name in ("config.yaml", "manifest.parquet", "rejects.parquet", "folds.parquet", "predictions.parquet",
                 "metrics.json", "report.html"):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    drawn = {path.stem for path in (run / "plots").glob("*.png")}
    assert drawn == {"confusion", "speakers", "folds", "reliability"}
    page = (run / "report.html").read_text()
    for words in (
        "SVM on mfcc, energy",
        "Speaker-independent",
        "inner UAR",
        "fold 5",
        "w2v2 baseline --config",
    ):
        assert words in page, words


def test_every_clip_is_scored_once_and_metrics_are_scikit_learns(finished):
    config, metrics = finished
    clips, predictions, folds = (table(config.run, name) for name in ("manifest", "predictions", "folds"))
    assert predictions["clip_id"].to_pylist() == clips["clip_id"].to_pylist()
    target, predicted = predictions["target"].to_pylist(), predictions["predicted"].to_pylist()
    assert metrics["pooled"]["uar"] == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(target, predicted)
    )
    assert metrics["pooled"]["uar"] > 0.4 > 2 * metrics["chance_uar"]
    probabilities = np.stack([predictions[f"prob_{name}"] for name in metrics["classes"]], 1)
    assert np.allclose(probabilities.sum(1), 1)
    assert [metrics["classes"][i] for i in probabilities.argmax(1)] == predicted
    number = [metrics["classes"].index(name) for name in target]
    loss = sklearn_metrics.log_loss(number, probabilities, labels=range(8))
    assert np.average(folds["loss"], weights=folds["num_held_out"]) == pytest.approx(loss)
    assert metrics["folds"]["uar"]["values"] == folds["uar"].to_pylist()
    assert [row["c"] for row in metrics["chosen"]] == folds["c"].to_pylist() and len(
        metrics["features"]
    ) == 84


def test_the_same_command_again_computes_no_features_and_ends_with_the_same_numbers(finished):
    config, metrics = finished
    entries = {p: p.stat().st_mtime_ns for p in Path(config.cache.uri).rglob("*.npy")}
    assert len(entries) == 2 * 192
    again = baseline.main(config)
    assert {p: p.stat().st_mtime_ns for p in Path(config.cache.uri).rglob("*.npy")} == entries
    (session,) = again.pop("later_sessions")
    assert session["seconds"] > 0
    assert again == metrics  # the time and the machine of the first, too


@pytest.fixture(scope="module")
def tuned(finished, tmp_path_factory):
    """A search of one trial next to the baseline, and its metrics."""
    config, _ = finished
    config = TuneFoldsConfig(
        run=str(tmp_path_factory.mktemp("tuned") / "run"),
        data=config.data,
        cache=config.cache,
        encoder=EncoderConfig(train="head"),
        optim=OptimConfig(learning_rate=5e-3),
        training=TrainingConfig(num_epochs=1),
        search=SearchConfig(num_trials=1, pruning="none"),
        baseline=config.run,
    )
    with no_pictures():
        return config, tune_folds.main(config)


def test_both_jobs_have_the_same_clips_and_folds(finished, tuned):
    columns = ["clip_id", "speaker", "label", "fold", "audio_digest", "num_samples"]
    ours, theirs = (table(run[0].run, "manifest").select(columns) for run in (finished, tuned))
    assert ours.equals(theirs)


def test_the_search_reports_the_difference_from_the_baseline(finished, tuned):
    (_, ours), (config, theirs) = finished, tuned
    higher = theirs["baseline"]["difference"]["uar"]
    assert higher["value"] == pytest.approx(theirs["pooled"]["uar"] - ours["pooled"]["uar"])
    page = (Path(config.run) / "report.html").read_text()
    assert "Compared with a baseline" in page and "SVM on mfcc, energy" in page


def test_best_yaml_is_still_read_by_finetune(tuned, tmp_path):
    config, _ = tuned
    best = Path(config.run) / "best.yaml"
    assert "baseline" not in yaml.safe_load(best.read_text())
    assert command_line.parse(FinetuneConfig, ["--config", str(best)]).encoder == config.encoder


def test_a_baseline_of_other_folds_is_refused_before_anything_is_trained(tuned, tmp_path):
    config, _ = tuned
    run = tmp_path / "run"
    other = replace(config, run=str(run), folds=FoldsConfig(kind="consecutive", num_folds=4))
    with pytest.raises(
        UserError, match=r"baseline .* has other clips, labels or folds: \d+ of 192 clips here"
    ):
        tune_folds.main(other)
    assert not (run / "ledger").exists()
    with pytest.raises(UserError, match=r"baseline .*/nowhere is not a finished run of baseline"):
        tune_folds.main(replace(config, run=str(tmp_path / "second"), baseline=str(tmp_path / "nowhere")))


def test_clips_that_cannot_be_used_are_listed_and_the_others_used(finished, corpus, tmp_path, caplog):
    config, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    first, second = sorted((copy / "Actor_05").glob("*.wav"))[:2]
    first.write_bytes(first.read_bytes()[:1000])
    second.write_bytes(b"")
    (copy / ".hidden.wav").write_bytes(b"")
    (copy / "notes.txt").write_text("notes")
    config = replace(config, run=str(tmp_path / "run"), data=DataConfig(uri=str(copy)))
    config = replace(config, folds=FoldsConfig(kind="consecutive", num_folds=2))
    with pytest.raises(UserError, match=r"2 of 192 clips were rejected.*raise --data.max_reject_fraction"):
        baseline.main(config)
    config = replace(config, data=replace(config.data, max_reject_fraction=0.05))
    caplog.set_level(logging.INFO)
    assert baseline.main(config)["num_clips"] == 190
    assert check_accounts(config.run, caplog.text) == {
        "given": 195, "used": 190, "rejected": {"truncated": 1, "empty": 1},
        "passed_over": {"hidden files": 2, "files that are not audio": 1}, "tolerated": {},
    }  # fmt: skip
    reasons = [row["kind"] for row in table(config.run, "rejects").to_pylist()]
    assert sorted(reasons) == ["empty", "truncated"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"svm": SvmConfig(num_inner_folds=21)},
            r"svm.num_inner_folds is 21 but outside fold \d there are only 20 speakers",
        ),
        ({"data": DataConfig(uri="/nowhere/data")}, r"/nowhere/data"),
    ],
)
def test_mistakes_are_one_sentence(finished, tmp_path, change, message):
    with pytest.raises(UserError, match=message) as caught:
        baseline.main(replace(finished[0], run=str(tmp_path / "run"), **change))
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 600


def test_settings_of_another_run_are_refused(finished):
    config, _ = finished
    with pytest.raises(UserError, match=r"holds a run with svm.c = \[1.0, 10.0\], now it is \[2.0\]"):
        baseline.main(replace(config, svm=replace(config.svm, c=(2.0,))))


def test_help_tells_the_settings():
    command = [sys.executable, str(ROOT / "jobs/baseline.py"), "--help", "all"]
    help_text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--svm.num_inner_folds" in help_text and "Folds, by speaker, among the training clips" in help_text


def test_metrics_json_is_what_main_returns(finished):
    config, metrics = finished
    written = json.loads((Path(config.run) / "metrics.json").read_text())
    assert written["job"] == "baseline" and written["pooled"]["uar"] == metrics["pooled"]["uar"]
