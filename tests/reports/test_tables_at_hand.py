"""Pages are drawn from the tables that a job has at hand, and are those that are drawn from its files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.made.model_run import write_task_run
from tests.made.tune_run import write_run
from w2v2.reports.model_page import write_model_report
from w2v2.reports.tune_page import write_tune_report
from w2v2.storage import run_directory


def check(run: Path, write_report: Callable[..., str], names: Sequence[str]) -> None:
    """The page without the files of these tables is the one with them."""
    read = Path(write_report(str(run))).read_text()
    tables = {name: run_directory.read_table(str(run), name) for name in names}
    for name in names:
        (run / f"{name}.parquet").unlink()
    assert Path(write_report(str(run), tables)).read_text() == read


def test_tables_of_a_model_are_not_read_again(tmp_path: Path) -> None:
    check(write_task_run(tmp_path / "run", "classes"), write_model_report, ("manifest", "predictions"))


@pytest.mark.slow
def test_tables_of_a_search_are_not_read_again(tmp_path: Path) -> None:
    names = ("manifest", "predictions", "trials", "folds", "curves")
    check(write_run(tmp_path / "run"), write_tune_report, names)
