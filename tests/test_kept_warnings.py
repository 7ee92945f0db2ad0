"""Warnings of a job, and those of its workers that the driver logs, reach metrics.json and the page."""

import json
import logging
from pathlib import Path

from w2v2.cluster.worker_warnings import ReportedResult, logged
from w2v2.kept_warnings import kept_warnings, warnings_kept
from w2v2.reports.blocks import Table
from w2v2.reports.shared_sections import warnings_blocks
from w2v2.storage.run_directory import write_metrics


def test_warnings_of_driver_and_workers_are_in_the_metrics(tmp_path: Path) -> None:
    with warnings_kept():
        logging.getLogger("w2v2.data").warning("%d speakers look alike", 2)
        logging.getLogger("w2v2.data").info("not a warning")
        logging.getLogger("other").warning("not ours")
        for _ in range(2):
            logged(ReportedResult(result=1, warnings=("the cache is damaged",)))
        write_metrics(str(tmp_path), {"job": "evaluate"})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["warnings"] == ["2 speakers look alike", "worker: the cache is damaged"]
    (table,) = warnings_blocks(metrics)
    assert isinstance(table, Table) and list(table.rows) == [[text] for text in metrics["warnings"]]
    logging.getLogger("w2v2.data").warning("after the job")
    with warnings_kept():
        assert kept_warnings() == [] and warnings_blocks({}) == []
