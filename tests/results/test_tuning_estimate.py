"""The estimate of the search that chose a model's settings, by its metrics.json."""

from pathlib import Path

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
