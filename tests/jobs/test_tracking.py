"""--track: the numbers of metrics.json in MLflow, one run for all sessions of a run directory, and jobs that no tracker stops."""

import json
import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cloud.gcs import FakeGcs, gcs_environment, without_pauses
from w2v2.cluster import tracking
from w2v2.cluster.tracker_runs import StartedRun
from w2v2.config.command_line import parse
from w2v2.config.data import CacheConfig, DataConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, TrainingConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.jobs import finetune, tune_folds
from w2v2.storage import run_directory

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local store, as the user's environment names it."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)  # artifacts have their default place there
    yield uri
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> CacheConfig:
    return CacheConfig(uri=str(tmp_path_factory.mktemp("cache")))


def search_config(run: Path, corpus: Path, cache: CacheConfig, **changes: Any) -> TuneFoldsConfig:
    base = TuneFoldsConfig(
        run=str(run),
        local=True,
        track="mlflow",
        data=DataConfig(uri=str(corpus)),
        cache=cache,
        encoder=EncoderConfig(train="head"),
        training=TrainingConfig(num_epochs=2),
        search=SearchConfig(num_trials=2, pruning="none"),
    )
    return replace(base, **changes)


def runs_of(store: str) -> tuple[Any, list[Any]]:
    """The run of the job, and those of its trials in order."""
    client = mlflow.MlflowClient(store)
    (experiment,) = [one for one in client.search_experiments() if one.name == "w2v2"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return parent, sorted(children, key=lambda run: run.info.run_name)


def test_a_search_of_heads_without_ray_is_in_mlflow_with_the_numbers_of_its_metrics(
    two_emotions: Path, cache: CacheConfig, tmp_path: Path, store: str
) -> None:
    config = search_config(tmp_path / "run", two_emotions, cache)
    metrics = tune_folds.main(config)
    parent, trials = runs_of(store)
    assert parent.info.status == "FINISHED" and parent.info.run_name == "run"
    score, sent = metrics["estimate"]["metrics"]["uar"], parent.data.metrics
    assert sent["estimate/uar"] == score["value"]
    assert (sent["estimate/uar_low"], sent["estimate/uar_high"]) == (score["low"], score["high"])
    assert sent["pooled/uar"] == metrics["pooled"]["uar"] and sent["trial"] == metrics["trial"]
    assert [sent["pooled/uar_low"], sent["pooled/uar_high"]] == metrics["pooled"]["intervals"]["uar"]
    assert parent.data.params["encoder.train"] == "head" and parent.data.params["data.uri"] == str(
        two_emotions
    )
    tags = parent.data.tags
    assert tags["w2v2.run"] == config.run and len(tags["w2v2.data_digest"]) == 16
    assert len(trials) == 2
    table = pq.read_table(tmp_path / "run" / "trials.parquet").to_pylist()
    folds = pq.read_table(tmp_path / "run" / "folds.parquet").to_pylist()
    curves = pq.read_table(tmp_path / "run" / "curves.parquet").to_pylist()
    client = mlflow.MlflowClient(store)
    for row, run in zip(table, trials, strict=True):
        assert run.data.metrics["uar_mean"] == row["uar_mean"] and run.info.status == "FINISHED"
        rate = row["params_optim.learning_rate"]
        assert run.data.params["optim.learning_rate"] == str(rate)
        history = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "uar")]
        assert history == [(f["fold"], f["uar"]) for f in folds if f["trial"] == row["trial"]]
        loss = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "fold-01/train_loss")]
        curve = [c for c in curves if (c["trial"], c["fold"]) == (row["trial"], 1)]
        assert loss == [(c["epoch"], c["train_loss"]) for c in curve]

    # The same command again, with one more trial: the same run, nothing twice.
    more = replace(config, search=replace(config.search, num_trials=3))
    again = tune_folds.main(more)
    resumed, trials = runs_of(store)
    assert resumed.info.run_id == parent.info.run_id and len(trials) == 3
    assert resumed.data.metrics["estimate/uar"] == again["estimate"]["metrics"]["uar"]["value"]
    assert len(client.get_metric_history(trials[0].info.run_id, "uar")) == 6


def test_a_run_that_is_refused_begins_none_and_leaves_that_of_the_directory_as_it_was(
    two_emotions: Path, cache: CacheConfig, tmp_path: Path, store: str
) -> None:
    config = search_config(
        tmp_path / "run", two_emotions, cache, search=SearchConfig(num_trials=1, pruning="none")
    )
    for refused in (
        replace(config, data=DataConfig(uri=str(tmp_path / "nowhere"))),
        replace(config, encoder=EncoderConfig(name=str(tmp_path / "nowhere"), train="head")),
    ):
        with pytest.raises(UserError, match="nowhere"):
            tune_folds.main(refused)
    assert not [one for one in mlflow.MlflowClient(store).search_experiments() if one.name == "w2v2"]
    tune_folds.main(config)
    before, _ = runs_of(store)
    assert before.data.params["optim.learning_rate"] == "0.0015", "what was left open is filled in"
    fewer = tmp_path / "fewer"
    shutil.copytree(two_emotions, fewer)
    next(fewer.rglob("*-01.wav")).unlink()
    data = replace(config.data, uri=str(fewer))
    for refused, why in (
        (replace(config, seed=1), r"holds a run with seed = 0, now it is 1"),
        (replace(config, run=str(tmp_path / "run"), data=data), r"holds a run with data\.uri"),
    ):
        with pytest.raises(UserError, match=why):
            tune_folds.main(refused)
    after, _ = runs_of(store)
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    assert after.info.end_time == before.info.end_time and after.data.metrics == before.data.metrics


@pytest.mark.slow
def test_the_model_of_the_classes_as_they_are_is_not_in_the_curve_of_the_other(
    corpus: Path, cache: CacheConfig, tmp_path: Path, store: str
) -> None:
    config = FinetuneConfig(
        run=str(tmp_path / "model"), local=True, track="mlflow", cache=cache, before_remapping=True,
        data=DataConfig(uri=str(corpus), classes={"calm": "neutral"}),
        encoder=EncoderConfig(train="head"), training=TrainingConfig(num_epochs=2),
    )  # fmt: skip
    finetune.main(config)
    parent, _ = runs_of(store)
    sent = mlflow.MlflowClient(store).get_metric_history(parent.info.run_id, "training/train_loss")
    curve = pq.read_table(tmp_path / "model" / "curves.parquet").to_pylist()
    assert [m.value for m in sent] == [row["train_loss"] for row in curve]


def test_a_run_may_begin_in_another_thread_than_it_ends_in(tmp_path: Path, store: str) -> None:
    """Measurements of Ray's workers arrive in threads, and MLflow's active run is one of a thread."""
    session = tracking.Session(search_config(tmp_path / "run", tmp_path, CacheConfig()))
    points = [(1, {"train_loss": 0.5}), (2, {"train_loss": 0.25})]
    thread = threading.Thread(target=session.log, args=("training", points))
    thread.start()
    thread.join()
    session.finish({"pooled": {"uar": 0.75}, "trial": 2})
    parent, children = runs_of(store)
    assert parent.info.status == "FINISHED" and parent.info.run_name == "run" and not children
    assert parent.data.metrics == {"training/train_loss": 0.25, "pooled/uar": 0.75, "trial": 2.0}
    assert "w2v2.data_digest" in parent.data.tags and session.num_failed == 0


@pytest.mark.slow
def test_epochs_of_a_fine_tuning_are_sent_as_they_end_and_an_error_ends_the_run_as_failed(
    two_emotions: Path, cache: CacheConfig, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig(
        run=str(tmp_path / "model"), local=True, track="mlflow", data=DataConfig(uri=str(two_emotions)), cache=cache,
        encoder=EncoderConfig(train="head"), training=TrainingConfig(num_epochs=2),
    )  # fmt: skip

    def killed(*args: Any, **kwargs: Any) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("w2v2.results.finetune.write_outcome", killed)
        with pytest.raises(UserError, match="the disk is full"):
            finetune.main(config)
    parent, _ = runs_of(store)
    client = mlflow.MlflowClient(store)
    assert parent.info.status == "FAILED"
    before = client.get_metric_history(parent.info.run_id, "training/train_loss")
    assert [m.step for m in before] == [1, 2]
    metrics = finetune.main(config)
    parent, _ = runs_of(store)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["pooled/uar"] == metrics["pooled"]["uar"]
    after = client.get_metric_history(parent.info.run_id, "training/train_loss")
    assert [(m.step, m.value) for m in after] == [(m.step, m.value) for m in before]
    curve = pq.read_table(tmp_path / "model" / "curves.parquet").to_pylist()
    assert [m.value for m in after] == [row["train_loss"] for row in curve]


@pytest.mark.slow
def test_a_server_that_is_down_stops_nothing_and_its_password_is_nowhere(
    two_emotions: Path,
    cache: CacheConfig,
    tmp_path: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:pa55word@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = search_config(
        tmp_path / "run", two_emotions, cache, search=SearchConfig(num_trials=1, pruning="none")
    )
    with caplog.at_level(logging.WARNING, "w2v2"):
        metrics = tune_folds.main(config)
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert kept["estimate"] == json.loads(json.dumps(metrics["estimate"]))
    (warning,) = [text for text in kept["warnings"] if text.startswith("tracking: ")]
    assert "the start of its run failed" in warning and "the job continues" in warning
    assert "1 of 1 calls of mlflow failed" in caplog.messages[-1]
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert files and not any(b"pa55word" in path.read_bytes() for path in files)

    # It answers again: the same command sends everything.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    tune_folds.main(config)
    parent, (trial,) = runs_of(store)
    assert parent.data.metrics["estimate/uar"] == metrics["estimate"]["metrics"]["uar"]["value"]
    assert trial.data.metrics["uar_mean"] == pytest.approx(metrics["folds"]["uar"]["mean"], abs=1e-12)
    assert len(mlflow.MlflowClient(store).get_metric_history(trial.info.run_id, "fold-05/train_loss")) == 2


def test_calls_that_fail_in_a_row_are_not_made_for_ever(tmp_path: Path, caplog) -> None:
    session = tracking.Session(search_config(tmp_path / "run", tmp_path, CacheConfig()))
    session._has_begun = session._open = True
    calls: list[Any] = []

    def broken(*args: Any) -> None:
        calls.append(args)
        raise ConnectionError("no route to https://ann:pa55word@host/")

    session._run.log = broken  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "w2v2"):
        for step in range(9):
            session.log("training", [(step, {"train_loss": 0.1})])
    assert len(calls) == session.num_failed == tracking.NUM_IN_A_ROW
    assert not any("pa55word" in message for message in caplog.messages)


class RecordedRun:
    """In place of a tracker's run: what it was sent."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {"run": "1"}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def begin(self, *args: Any) -> StartedRun:
        self.calls.append(("begin", args))
        return StartedRun(place="here", continued=False)

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, args))


@pytest.fixture
def run_in_a_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """A finished run in gs://speech/run with a learning curve of one epoch."""
    without_pauses(monkeypatch)
    with FakeGcs("speech") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        run_directory.write_table("gs://speech/run", "curves", pa.table({"epoch": [0], "uar": [0.5]}))
        yield server


def tracked_session(monkeypatch: pytest.MonkeyPatch) -> tuple[tracking.Session, RecordedRun]:
    run = RecordedRun()
    monkeypatch.setattr(tracking, "run_of", lambda tracker: run)
    config = replace(parse(FinetuneConfig, []), run="gs://speech/run", track="mlflow")
    return tracking.Session(config), run


def test_a_table_that_cannot_be_read_is_warned_of_and_the_rest_is_sent(
    run_in_a_bucket: FakeGcs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_in_a_bucket.faults.add(kind="status", path_contains="curves.parquet", count=-1)
    session, run = tracked_session(monkeypatch)
    session.finish({"uar": 0.5})
    assert [name for name, _ in run.calls] == ["begin", "summarize", "end"]
    (warning,) = caplog.messages
    assert warning.startswith(
        "tracking: mlflow: sending curves is left out (gs://speech/run/curves.parquet: Google "
    )
    assert warning.endswith("the job continues, and the same command again sends what mlflow lacks")
    run_in_a_bucket.faults.clear()
    again, run = tracked_session(monkeypatch)
    again.finish({"uar": 0.5})
    assert ("log", ("training", [(0, {"uar": 0.5})])) in run.calls


def test_a_run_directory_that_does_not_answer_stops_no_job_and_begins_no_second_run(
    run_in_a_bucket: FakeGcs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session, run = tracked_session(monkeypatch)
    session.log("training", [(0, {"uar": 0.5})])
    assert [name for name, _ in run.calls] == ["begin", "log"]
    run_in_a_bucket.faults.add(kind="status", count=-1)
    session.log("training", [(1, {"uar": 0.6})])
    session.end("FAILED")
    assert [name for name, _ in run.calls] == ["begin", "log", "log", "end"]
    [warning] = caplog.messages
    assert "mlflow: tracker.json cannot be written (gs://speech/run/" in warning
    caplog.clear()
    session, run = tracked_session(monkeypatch)
    session.log("training", [(2, {"uar": 0.7})])
    session.finish({"uar": 0.7})
    assert run.calls == []
    assert caplog.messages[0].startswith(
        "tracking: mlflow: beginning a run is left out (gs://speech/run/tracker"
    )


@pytest.mark.parametrize("tracker, extra", [("mlflow", "mlflow-skinny"), ("wandb", "wandb")])
def test_a_library_that_is_missing_is_one_sentence_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, extra: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = parse(FinetuneConfig, ["--track", tracker, "--run", str(tmp_path / "run")])
    with pytest.raises(
        UserError,
        match=rf"track is {tracker}, and the library {extra} is not installed: pip install -e '\.\[{tracker}\]'",
    ):
        finetune.main(config)
    assert not (tmp_path / "run").exists()
