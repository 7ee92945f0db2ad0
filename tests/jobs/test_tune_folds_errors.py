"""jobs/tune_folds.py: mistakes, bad clips, failed trials."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import ROOT
from tests.jobs.searches import make_config, table
from w2v2.config.data import DataConfig, FoldsConfig
from w2v2.config.model import EncoderConfig, OptimConfig, TrainingConfig
from w2v2.config.resources import TrainingResources
from w2v2.config.tune_folds import Dimension, SearchConfig
from w2v2.errors import UserError
from w2v2.jobs import tune_folds


def test_run_directory_of_another_run_is_refused(finished):
    _, config, _ = finished
    with pytest.raises(
        UserError, match=r"holds a run with training.num_epochs = 2, now it is 3: give this run"
    ):
        tune_folds.main(replace(config, training=TrainingConfig(num_epochs=3)))


def test_bad_clips_are_listed_and_the_others_are_used_until_the_data_changes(two_emotions, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(two_emotions), str(copy)], check=True)
    first, second = sorted((copy / "Actor_05").glob("*.wav"))[:2]
    first.write_bytes(first.read_bytes()[:1000])
    second.write_bytes(b"")
    (copy / "Actor_05" / "03-01-09-01-01-01-05.wav").write_bytes(b"RIFF")
    config = make_config(
        tmp_path, copy, encoder=EncoderConfig(train="head"), search=SearchConfig(num_trials=1), local=True
    )
    config = replace(config, data=replace(config.data, max_reject_fraction=0.03))
    with pytest.raises(UserError, match=r"3 of 49 clips were rejected.*raise --data.max_reject_fraction"):
        tune_folds.main(config)
    assert len(table(Path(config.run), "rejects")) == 3
    config = replace(config, data=replace(config.data, max_reject_fraction=0.1))
    assert tune_folds.main(config)["pooled"]["num_clips"] == 46
    kinds = {Path(row["clip_id"]).name: row["kind"] for row in table(Path(config.run), "rejects").to_pylist()}
    assert kinds == {
        first.name: "truncated",
        second.name: "empty",
        "03-01-09-01-01-01-05.wav": "name not RAVDESS",
    }
    next((copy / "Actor_06").glob("*.wav")).unlink()
    with pytest.raises(
        UserError,
        match=r"the data of .* has changed since the run began: 0 clips added or changed, 1 removed or changed",
    ):
        tune_folds.main(config)


def test_same_recording_under_two_actors_is_refused(two_emotions, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(two_emotions), str(copy)], check=True)
    source = sorted((copy / "Actor_01").glob("*.wav"))[0]
    (copy / "Actor_02" / source.name.replace("-01.wav", "-02.wav")).write_bytes(source.read_bytes())
    with pytest.raises(UserError, match=r"Actor_01/.*Actor_02/"):
        tune_folds.main(make_config(tmp_path, copy, local=True))


def test_failed_trials_are_reported_and_the_job_continues(two_emotions, tmp_path, ray_session):
    search = SearchConfig(
        num_trials=3, space={"optim.learning_rate": Dimension(choices=(1e-3, 1e15))}, num_startup_trials=3
    )
    config = make_config(tmp_path, two_emotions, search=search, seed=3, optim=OptimConfig(learning_rate=1e-3))
    config = replace(config, folds=FoldsConfig(kind="consecutive", num_folds=2))
    tune_folds.main(config)
    trials = table(Path(config.run), "trials").to_pylist()
    for row in trials:
        assert row["state"] == ("FAIL" if row["params_optim.learning_rate"] > 1 else "COMPLETE")
        assert ("the training loss is nan" in row["error"]) == (row["state"] == "FAIL")
    assert {row["state"] for row in trials} == {"FAIL", "COMPLETE"}


def test_when_every_trial_fails_the_first_error_is_the_message(two_emotions, tmp_path):
    config = make_config(tmp_path, two_emotions, optim=OptimConfig(learning_rate=1e15), local=True)
    config = replace(
        config, search=SearchConfig(num_trials=1, space={"optim.eps": Dimension(choices=(1e-8, 1e-7))})
    )
    with pytest.raises(
        UserError,
        match=r"no trial has all its 6 folds \(1 trial\); the first error: .*the training loss is nan",
    ):
        tune_folds.main(config)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dict(encoder=EncoderConfig(name="/nowhere/model")),
            r"encoder.name '/nowhere/model': no such folder",
        ),
        (
            dict(encoder=EncoderConfig(name="no-such/model-at-all")),
            r"encoder.name 'no-such/model-at-all': there is no such folder, the Hugging Face hub cannot",
        ),
        (dict(encoder=EncoderConfig(layer=9)), r"encoder.layer must be at most 2, the layers of tiny, got 9"),
        (
            dict(resources=TrainingResources(precision="bf16")),
            r"resources.precision is bf16 but there is no GPU",
        ),
        (
            dict(folds=FoldsConfig(kind="grouped", num_folds=25)),
            r"num_folds is 25 but there are only 24 speakers",
        ),
        (dict(data=DataConfig(uri="/nowhere/data")), r"/nowhere/data"),
        (dict(data=DataConfig(uri="s3://bucket/data")), r"s3://bucket/data"),
    ],
)
def test_mistakes_are_one_sentence(two_emotions, tmp_path, ray_session, change, message):
    with pytest.raises(UserError, match=message) as caught:
        tune_folds.main(make_config(tmp_path, two_emotions, **change))
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 600


def test_exit_codes_of_the_command_line(tmp_path):
    command = [sys.executable, str(ROOT / "jobs" / "tune_folds.py")]
    wrong = subprocess.run([*command, "--optim.learnin_rate", "1"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "optim.learnin_rate" in wrong.stderr and "Traceback" not in wrong.stderr
    wrong = subprocess.run(
        [*command, "--data.uri", str(tmp_path), "--run", str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1
