"""The estimate of the search that chose a model's settings, by its metrics.json."""

from pathlib import Path

from tests.cloud.gcs import FakeGcs, gcs_environment, without_pauses
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import TaskConfig
from w2v2.results.finetune import _tuning_estimate
from w2v2.storage import run_directory

ESTIMATE = {"metric": "uar", "name": "BBC-CV", "metrics": {}}


def test_it_is_that_of_the_search_and_none_where_there_is_no_search(tmp_path: Path, caplog) -> None:
    run_directory.write_metrics(str(tmp_path), {"job": "tune_folds", "estimate": ESTIMATE})
    assert _tuning_estimate(FinetuneConfig(tuned_on=str(tmp_path))) == ESTIMATE
    assert _tuning_estimate(FinetuneConfig()) is None
    assert _tuning_estimate(FinetuneConfig(tuned_on=str(tmp_path / "gone"))) is None
    labels = TaskConfig(kind="multi_label")
    assert _tuning_estimate(FinetuneConfig(tuned_on=str(tmp_path), task=labels)) is None
    assert not caplog.text


def test_damaged_metrics_of_a_search_are_a_warning(tmp_path: Path, caplog) -> None:
    (tmp_path / "metrics.json").write_text('{"estimate": {"metric": "uar"')
    assert _tuning_estimate(FinetuneConfig(tuned_on=str(tmp_path))) is None
    assert "no estimate of the search in tuned_on: " in caplog.text and "metrics.json: damaged" in caplog.text


def test_metrics_that_are_there_and_do_not_come_are_a_warning(monkeypatch, caplog) -> None:
    without_pauses(monkeypatch)
    with FakeGcs("speech") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        run_directory.write_metrics("gs://speech/search", {"job": "tune_folds", "estimate": ESTIMATE})
        config = FinetuneConfig(tuned_on="gs://speech/search")
        assert _tuning_estimate(config) == ESTIMATE
        server.faults.add(kind="status", count=-1)
        assert _tuning_estimate(config) is None
    (message,) = caplog.messages
    assert message.startswith(
        "no estimate of the search in tuned_on: gs://speech/search/metrics.json: Google Cloud "
    )
