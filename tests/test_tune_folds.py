"""The main job, whole: on real files, on a real Ray, from a folder and from a bucket, killed and run again."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn import metrics as sklearn_metrics

from w2v2 import cli
from w2v2.config import CacheConfig, DataConfig, FoldsConfig, UserError
from w2v2.model_config import EncoderConfig, OptimConfig, TrainingConfig
from w2v2.tune_config import Dimension, SearchConfig, TuneFoldsConfig

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "jobs"))
import tune_folds  # noqa: E402


def make_config(tmp_path: Path, corpus: Path, **changes) -> TuneFoldsConfig:
    base = TuneFoldsConfig(
        run=str(tmp_path / "run"),
        data=DataConfig(uri=str(corpus)),
        cache=CacheConfig(uri=str(tmp_path / "cache")),
        encoder=EncoderConfig(train="last", num_last_layers=1),
        optim=OptimConfig(learning_rate=5e-3),
        training=TrainingConfig(num_epochs=2),
        search=SearchConfig(num_trials=2, max_concurrent_trials=1, pruning="none"),
    )
    return replace(base, **changes)


RUN_FILES = (
    "config.yaml", "manifest.parquet", "rejects.parquet", "trials.parquet", "folds.parquet", "curves.parquet",
    "predictions.parquet", "metrics.json", "best.yaml", "report.html", "study.db"
)  # fmt: skip


def table(run: Path, name: str):
    return pq.read_table(Path(run) / f"{name}.parquet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus, ray_session):
    """A finished run of two trials, its config and its metrics."""
    tmp_path = tmp_path_factory.mktemp("finished")
    config = make_config(
        tmp_path, corpus, search=SearchConfig(num_trials=2, max_concurrent_trials=2, pruning="none")
    )
    return tmp_path / "run", config, tune_folds.main(config)


def test_run_directory_has_everything_the_readme_promises(finished):
    run, _, _ = finished
    for name in RUN_FILES:
        assert (run / name).stat().st_size > 0, name
    assert len(list((run / "plots").glob("*.png"))) >= 6
    assert list((run / "tensorboard").rglob("events*"))
    assert not [path for path in run.rglob("*") if path.name.endswith((".tmp", ".part"))]


def test_every_clip_is_predicted_once_by_a_model_that_never_heard_its_speaker(finished):
    run, _, _ = finished
    clips, predictions = table(run, "manifest"), table(run, "predictions")
    assert predictions["clip_id"].to_pylist() == clips["clip_id"].to_pylist()
    assert predictions["fold"].to_pylist() == clips["fold"].to_pylist()
    speakers = {(row["speaker"], row["fold"]) for row in predictions.to_pylist()}
    assert len(speakers) == 24
    probabilities = np.array(
        [
            predictions[f"prob_{name}"].to_pylist()
            for name in json.loads((run / "metrics.json").read_text())["classes"]
        ]
    )
    assert np.allclose(probabilities.sum(0), 1)


def test_metrics_are_what_scikit_learn_computes_from_the_predictions(finished):
    run, _, metrics = finished
    predictions = table(run, "predictions")
    target, predicted = predictions["target"].to_pylist(), predictions["predicted"].to_pylist()
    pooled = json.loads((run / "metrics.json").read_text())["pooled"]
    assert pooled["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(target, predicted))
    assert pooled["uar"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(target, predicted))
    assert pooled["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(target, predicted, average="macro"))
    matrix = sklearn_metrics.confusion_matrix(target, predicted, labels=metrics["classes"])
    assert pooled["confusion"] == matrix.tolist()
    for name, recall in pooled["recall"].items():
        assert recall == pytest.approx(
            sklearn_metrics.recall_score(target, predicted, labels=[name], average="macro")
        )
    low, high = pooled["intervals"]["uar"]
    assert low <= pooled["uar"] <= high


def test_fold_scores_are_those_of_the_predictions(finished):
    run, _, metrics = finished
    predictions = table(run, "predictions").to_pandas()
    folds = table(run, "folds").to_pandas().query(f"trial == {metrics['trial']}").set_index("fold")
    for fold, rows in predictions.groupby("fold"):
        assert folds.loc[fold, "uar"] == pytest.approx(
            sklearn_metrics.balanced_accuracy_score(rows["target"], rows["predicted"])
        )
        names = metrics["classes"]
        loss = sklearn_metrics.log_loss(
            rows["target"], rows[[f"prob_{n}" for n in sorted(names)]].to_numpy(), labels=sorted(names)
        )
        assert folds.loc[fold, "loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics["folds"]["uar"]["mean"] == pytest.approx(folds["uar"].mean())


def test_trunk_ran_once_per_clip_for_all_trials_folds_and_epochs(finished):
    _, _, metrics = finished
    assert metrics["trunk"] == {"clip_forwards": 192, "num_clips": 192, "reused": 0}


def test_study_opens_in_optuna(finished):
    run, _, metrics = finished
    study = optuna.load_study(study_name="tune_folds", storage=f"sqlite:///{run}/study.db")
    assert study.best_trial.number == metrics["trial"]
    assert study.best_value == pytest.approx(metrics["folds"]["uar"]["mean"])


def test_best_yaml_holds_the_best_hyperparameters(finished):
    run, config, metrics = finished
    best = yaml.safe_load((run / "best.yaml").read_text())
    for path, value in metrics["params"].items():
        section, name = path.split(".")
        assert best[section][name] == value
    assert best["encoder"]["num_last_layers"] == config.encoder.num_last_layers


def test_same_run_again_trains_nothing(finished):
    run, config, metrics = finished
    before = {path: path.stat().st_mtime_ns for path in (run / "ledger").iterdir()}
    again = tune_folds.main(config)
    assert {path: path.stat().st_mtime_ns for path in (run / "ledger").iterdir()} == before
    assert again["pooled"] == metrics["pooled"]


def test_run_directory_of_another_run_is_refused(finished):
    _, config, _ = finished
    with pytest.raises(
        UserError, match=r"holds a run with training.num_epochs = 2, now it is 3: give this run"
    ):
        tune_folds.main(replace(config, training=TrainingConfig(num_epochs=3)))


def test_bad_clips_are_listed_and_the_others_are_used_until_the_data_changes(corpus, tmp_path, ray_session):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(corpus), str(copy)], check=True)
    first, second = sorted((copy / "Actor_05").glob("*.wav"))[:2]
    first.write_bytes(first.read_bytes()[:1000])
    second.write_bytes(b"")
    (copy / "Actor_05" / "03-01-09-01-01-01-05.wav").write_bytes(b"RIFF")
    config = make_config(tmp_path, copy, search=SearchConfig(num_trials=1))
    with pytest.raises(UserError, match=r"3 of 193 clips were rejected.*raise --data.max_reject_fraction"):
        tune_folds.main(config)
    assert len(table(Path(config.run), "rejects")) == 3
    config = replace(config, data=replace(config.data, max_reject_fraction=0.05))
    assert tune_folds.main(config)["pooled"]["num_clips"] == 190
    reasons = {row["clip_id"]: row["reason"] for row in table(Path(config.run), "rejects").to_pylist()}
    kinds = {Path(clip_id).name: reason.split(":")[0] for clip_id, reason in reasons.items()}
    assert kinds == {
        first.name: "truncated",
        second.name: "empty",
        "03-01-09-01-01-01-05.wav": "name not RAVDESS",
    }
    next((copy / "Actor_06").glob("*.wav")).unlink()
    with pytest.raises(
        UserError,
        match=r"the data of .* has changed since the run began: 0 clips are new or other, 1 are gone",
    ):
        tune_folds.main(config)


def test_same_recording_under_two_actors_is_refused(corpus, tmp_path, ray_session):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(corpus), str(copy)], check=True)
    source = sorted((copy / "Actor_01").glob("*.wav"))[0]
    (copy / "Actor_02" / source.name.replace("-01.wav", "-02.wav")).write_bytes(source.read_bytes())
    with pytest.raises(UserError, match=r"Actor_01/.*Actor_02/"):
        tune_folds.main(make_config(tmp_path, copy))


def write_csv(path: Path, corpus: Path, *, labels: list[str] | None = None) -> Path:
    from w2v2 import manifest

    clips = manifest.read(DataConfig(uri=str(corpus))).clips.to_pylist()
    labels = labels or [clip["label"] for clip in clips]
    lines = ["file,emotion,talker"]
    lines += [f"{clip['uri']},{label},{clip['speaker']}" for clip, label in zip(clips, labels, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


CSV = dict(uri_column="file", label_column="emotion", speaker_column="talker")


def test_csv_with_own_columns_and_merged_classes(corpus, tmp_path, ray_session):
    path = write_csv(tmp_path / "clips.csv", corpus)
    data = DataConfig(
        uri=str(path),
        **CSV,
        classes={"calm": "neutral", "fearful": "drop", "angry": "arousal", "happy": "arousal"},
    )
    config = make_config(tmp_path, corpus, data=data, folds=FoldsConfig(kind="grouped", num_folds=3))
    config = replace(
        config, encoder=EncoderConfig(train="head", layer="mix"), search=SearchConfig(num_trials=1)
    )
    metrics = tune_folds.main(config)
    assert metrics["classes"] == ["arousal", "disgust", "neutral", "sad", "surprised"]
    assert metrics["pooled"]["num_clips"] == 168 and len(metrics["folds"]["uar"]["values"]) == 3


def test_failed_trials_are_told_and_the_job_goes_on(corpus, tmp_path, ray_session):
    search = SearchConfig(
        num_trials=3, space={"optim.learning_rate": Dimension(choices=(1e-3, 1e15))}, num_startup_trials=3
    )
    config = make_config(tmp_path, corpus, search=search, seed=3, optim=OptimConfig(learning_rate=1e-3))
    config = replace(config, folds=FoldsConfig(kind="consecutive", num_folds=2))
    tune_folds.main(config)
    trials = table(Path(config.run), "trials").to_pylist()
    for row in trials:
        assert row["state"] == ("FAIL" if row["params_optim.learning_rate"] > 1 else "COMPLETE")
        assert ("the training loss is nan" in row["error"]) == (row["state"] == "FAIL")
    assert {row["state"] for row in trials} == {"FAIL", "COMPLETE"}


def test_when_every_trial_fails_the_first_error_is_the_message(corpus, tmp_path, ray_session):
    config = make_config(tmp_path, corpus, optim=OptimConfig(learning_rate=1e15))
    config = replace(
        config, search=SearchConfig(num_trials=1, space={"optim.eps": Dimension(choices=(1e-8, 1e-7))})
    )
    with pytest.raises(
        UserError, match=r"none of 1 trials has all its 6 folds; the first error: .*the training loss is nan"
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
            r"encoder.name 'no-such/model-at-all': the Hugging Face hub cannot",
        ),
        (dict(encoder=EncoderConfig(layer=9)), r"encoder.layer must be at most 2, the layers of tiny, got 9"),
        (dict(training=TrainingConfig(precision="bf16")), r"training.precision is bf16 but there is no GPU"),
        (
            dict(folds=FoldsConfig(kind="grouped", num_folds=25)),
            r"num_folds is 25 but there are only 24 speakers",
        ),
        (dict(data=DataConfig(uri="/nowhere/data")), r"/nowhere/data"),
        (dict(data=DataConfig(uri="s3://bucket/data")), r"s3://bucket/data"),
    ],
)
def test_mistakes_are_one_sentence(corpus, tmp_path, ray_session, change, message):
    with pytest.raises(UserError, match=message) as caught:
        tune_folds.main(make_config(tmp_path, corpus, **change))
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_unseen_actors_are_told_far_above_chance_and_shuffled_labels_are_not(
    corpus, tmp_path, ray_session, shuffled
):
    from w2v2 import manifest

    labels = manifest.read(DataConfig(uri=str(corpus))).clips["label"].to_pylist()
    if shuffled:
        labels = np.random.default_rng(1).permutation(labels).tolist()
    path = write_csv(tmp_path / "clips.csv", corpus, labels=labels)
    config = make_config(tmp_path, corpus, data=DataConfig(uri=str(path), **CSV), encoder=EncoderConfig())
    config = replace(
        config,
        optim=OptimConfig(),
        training=TrainingConfig(num_epochs=20),
        folds=FoldsConfig(kind="grouped", num_folds=3),
    )
    space = {"head.dropout": Dimension(choices=(0.1,))}
    metrics = tune_folds.main(replace(config, search=SearchConfig(num_trials=1, space=space)))
    low, high = metrics["pooled"]["intervals"]["uar"]
    assert low < 0.125 < high if shuffled else low > 0.2


@pytest.mark.slow
def test_trial_that_loses_its_worker_goes_on_where_it_was(corpus, tmp_path, ray_session):
    """As when a spot machine is taken away."""
    config = make_config(tmp_path, corpus, search=SearchConfig(num_trials=1))
    ledger, killed = tmp_path / "run" / "ledger", []

    def kill_worker_after_two_folds() -> None:
        while not killed:
            if ledger.exists() and len(list(ledger.glob("*.parquet"))) >= 2:
                workers = [
                    p
                    for p in psutil.process_iter(["cmdline"])
                    if "ImplicitFunc" in " ".join(p.info["cmdline"] or [])
                ]
                own = [p for p in workers if psutil.Process(os.getpid()) in p.parents()]
                killed.extend((path.name, path.read_bytes()) for path in ledger.glob("*.parquet"))
                for process in own:
                    process.kill()
            time.sleep(0.02)

    thread = threading.Thread(target=kill_worker_after_two_folds)
    thread.start()
    metrics = tune_folds.main(config)
    thread.join()
    assert metrics["selection"]["num_complete"] == 1 and metrics["selection"]["num_failed"] == 0
    for name, body in killed:
        assert (ledger / name).read_bytes() == body


@pytest.mark.slow
def test_two_workers_per_fold_score_as_one(corpus, tmp_path, ray_session):
    folds = FoldsConfig(kind="consecutive", num_folds=2)
    space = {"head.dropout": Dimension(choices=(0.0,))}  # dropout differs between workers
    losses = []
    for workers in (1, 2):
        search = SearchConfig(num_trials=1, space=space, workers_per_fold=workers)
        config = make_config(
            tmp_path, corpus, run=str(tmp_path / f"run{workers}"), folds=folds, search=search
        )
        config = replace(config, encoder=EncoderConfig(train="head"))
        tune_folds.main(config)
        losses.append([row["loss"] for row in table(Path(config.run), "folds").to_pylist()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def run_job(tmp_path: Path, config: TuneFoldsConfig, **environment: str) -> subprocess.Popen:
    path = tmp_path / "config.yaml"
    path.write_text(cli.dump(config))
    command = [sys.executable, str(ROOT / "jobs" / "tune_folds.py"), "--config", str(path)]
    return subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)  # fmt: skip


def kill(process: subprocess.Popen) -> None:
    """The whole session at once, as when a machine is lost: Ray and its workers, too."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def press_ctrl_c(ledger: Path) -> threading.Thread:
    """A thread that does so once four folds are in the ledger."""

    def wait_and_press() -> None:
        while not ledger.exists() or len(list(ledger.glob("*.parquet"))) < 4:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait_and_press, daemon=True)
    thread.start()
    return thread


def one_at_a_time(tmp_path: Path, corpus: Path, name: str) -> TuneFoldsConfig:
    """A search that is the same each time: three trials over three folds, two of the trials proposed by TPE."""
    search = SearchConfig(
        num_trials=3, max_concurrent_trials=1, num_startup_trials=1, pruning="none", cpus_per_trial=2
    )
    folds = FoldsConfig(kind="grouped", num_folds=3)
    return make_config(tmp_path, corpus, search=search, folds=folds, run=str(tmp_path / name))


def check_continued(config: TuneFoldsConfig, before: dict[str, bytes], whole: Path) -> None:
    """The run goes on where it was and ends as the one that nothing befell."""
    assert 4 <= len(before) < 9
    ledger = Path(config.run) / "ledger"
    for name, body in before.items():
        assert (ledger / name).read_bytes() == body, f"{name} was trained again"
    columns = ["clip_id", "fold", "target", "predicted", "prob_neutral", "prob_angry"]
    assert table(config.run, "predictions").select(columns) == table(whole, "predictions").select(columns)
    trials = table(config.run, "trials").drop_columns(["seconds"])
    assert trials == table(whole, "trials").drop_columns(["seconds"])


def test_stopped_and_run_again_it_ends_with_the_same_numbers(corpus, tmp_path, ray_session, caplog):
    caplog.set_level(logging.INFO, "w2v2")
    config = one_at_a_time(tmp_path, corpus, "stopped")
    ledger = tmp_path / "stopped" / "ledger"
    before_all = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process of `-n 2` ignores it
    thread = press_ctrl_c(ledger)
    with pytest.raises(KeyboardInterrupt):
        tune_folds.main(config)
    thread.join()
    signal.signal(signal.SIGINT, before_all)
    assert not (tmp_path / "stopped" / "metrics.json").exists()
    before = {path.name: path.read_bytes() for path in ledger.glob("*.parquet")}
    tune_folds.main(config)
    assert f"run: {config.run} (continued)" in caplog.text
    whole = tune_folds.main(replace(config, run=str(tmp_path / "whole")))
    assert whole["trunk"] == {"clip_forwards": 0, "num_clips": 192, "reused": 192}  # later runs reuse it
    assert "192 of them found in the cache" in caplog.text
    check_continued(config, before, tmp_path / "whole")


@pytest.mark.slow
def test_killed_and_run_again_it_ends_with_the_same_numbers(corpus, tmp_path, ray_session):
    config = one_at_a_time(tmp_path, corpus, "killed")
    process = run_job(tmp_path, config)
    ledger = tmp_path / "killed" / "ledger"
    deadline = time.monotonic() + 240
    while not ledger.exists() or len(list(ledger.glob("*.parquet"))) < 4:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    kill(process)
    before = {path.name: path.read_bytes() for path in ledger.glob("*.parquet")}
    tune_folds.main(config)
    tune_folds.main(replace(config, run=str(tmp_path / "whole")))
    check_continued(config, before, tmp_path / "whole")


def test_data_cache_and_run_in_a_bucket_computed_again_give_the_same_scores(finished, corpus, ray_bucket):
    run, config, near = finished
    there = f"gs://{ray_bucket.name}"
    config = replace(config, data=DataConfig(uri=ray_bucket.upload(corpus, "ravdess")))
    far = tune_folds.main(replace(config, run=f"{there}/runs/a", cache=CacheConfig(uri=f"{there}/cache")))
    assert {f"runs/a/{name}" for name in RUN_FILES} <= set(ray_bucket.names())
    assert any(name.startswith("cache/") for name in ray_bucket.names())
    assert far["trunk"]["clip_forwards"] == 192
    assert far["pooled"] == near["pooled"] == json.loads(ray_bucket.get("runs/a/metrics.json"))["pooled"]
    folds = pq.read_table(pa.BufferReader(ray_bucket.get("runs/a/folds.parquet")))
    same = ["trial", "fold", "loss", "uar", "train_loss"]
    assert folds.select(same) == table(run, "folds").select(same)


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
