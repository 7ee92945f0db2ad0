"""Pages are drawn from the tables that a job has at hand, and are those that are drawn from its files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.made.model_run import write_task_run
from tests.made.tune_run import write_run
from w2v2.reports.model_page import write_model_report
from w2v2.reports.tune_page import write_tune_report
from w2v2.storage import run_directory


def both_pages(run: Path, write_report: Callable[..., str], names: Sequence[str]) -> tuple[str, str]:
    """The page drawn from files, and from tables at hand after the files of these are deleted."""
    from_files = Path(write_report(str(run))).read_text()
    tables = {name: run_directory.read_table(str(run), name) for name in names}
    for name in names:
        (run / f"{name}.parquet").unlink()
    return from_files, Path(write_report(str(run), tables)).read_text()


def test_tables_of_a_model_are_not_read_again(tmp_path: Path) -> None:
    run = write_task_run(tmp_path / "run", "classes")
    from_files, at_hand = both_pages(run, write_model_report, ("manifest", "predictions"))
    assert at_hand == from_files


@pytest.mark.slow
def test_tables_of_a_search_are_not_read_again(tmp_path: Path) -> None:
    names = ("manifest", "predictions", "trials", "folds", "curves")
    from_files, at_hand = both_pages(write_run(tmp_path / "run"), write_tune_report, names)
    assert at_hand == from_files
