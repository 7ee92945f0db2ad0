"""The index of a folder of runs: every page with its first number, and nothing of another's overwritten."""

import html
import json
import re
from pathlib import Path

import pytest

from tests.made import tune_run
from tests.made.pictures import blank_pictures
from w2v2.reports.index_page import write_index
from w2v2.reports.tune_page import write_tune_report


def add_run(folder: Path, name: str, metrics: object) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "report.html").write_text("<html></html>")
    (folder / name / "metrics.json").write_text(metrics if isinstance(metrics, str) else json.dumps(metrics))
    return folder / name


def rows_of(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(<td.*?)</tr>", page, re.DOTALL)
    return [
        [html.unescape(re.sub("<.*?>", "", cell)) for cell in re.findall(r"<td.*?>(.*?)</td>", row)]
        for row in rows
    ]


def test_writing_a_page_writes_the_index_with_its_first_number(tmp_path, monkeypatch):
    blank_pictures(monkeypatch)
    run = tune_run.write_run(
        tmp_path / "a & b",
        change=lambda scores: scores.update(
            estimate=tune_run.made_estimate(scores), made={"date": "2026-11-02T10:00:00+00:00"} | MADE
        ),
    )
    add_run(tmp_path, "extraction", EXTRACTION)
    write_tune_report(str(run))
    page = (tmp_path / "index.html").read_text()
    first, second = rows_of(page)
    assert first[:2] == ["extraction", "extract_embeddings"] and first[2] == "9 of 10 clips embedded"
    assert second[:2] == ["a & b", "tune_folds"]
    metrics = json.loads((run / "metrics.json").read_text())
    value = metrics["estimate"]["metrics"]["uar"]["value"]
    assert second[2] == f"UAR {100 * value:.1f}% (BBC-CV)" and "% to " in second[3]
    assert second[6] == "2026-11-02 10:00" and 'href="a%20%26%20b/report.html"' in page


MADE = {"commit": "c", "cpu": "x", "num_cores": 2, "memory_gb": 1.0, "gpus": [], "system": "Linux"}
EXTRACTION = {
    "job": "extract_embeddings",
    "written": 4,
    "in_table": 5,
    "num_clips": 10,
    "made": {"date": "2026-11-03T10:00:00+00:00"},
}


def test_damaged_runs_and_those_of_another_form_do_not_stop_it(tmp_path):
    run = add_run(tmp_path, "good", EXTRACTION)
    earlier = {"there" if name == "in_table" else name: value for name, value in EXTRACTION.items()}
    add_run(tmp_path, "of an earlier version", earlier)
    add_run(tmp_path, "torn", '{"job": "tune')
    add_run(tmp_path, "list", "[1]")
    add_run(tmp_path, "old", {"job": "evaluate"})
    add_run(tmp_path, "<script>", EXTRACTION)
    (tmp_path / "not a run").mkdir()
    page = Path(write_index(str(run))).read_text()
    assert {row[0]: row[2] for row in rows_of(page)} == {
        "good": "9 of 10 clips embedded",
        "of an earlier version": "9 of 10 clips embedded",
        "<script>": "9 of 10 clips embedded",
        "old": "see its page",
    }
    assert "<script>" not in page


def test_a_file_of_another_is_not_overwritten(tmp_path, monkeypatch):
    run = add_run(tmp_path, "good", EXTRACTION)
    (tmp_path / "index.html").write_text("<html>mine</html>")
    assert write_index(str(run)) == "" and (tmp_path / "index.html").read_text() == "<html>mine</html>"
    (tmp_path / "index.html").unlink()
    assert write_index(str(run)) and write_index(str(run))  # its own it writes again
    (tmp_path / "index.html").unlink()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write_index(str(run)) == "" and not (tmp_path / "index.html").exists()
    assert write_index("gs://bucket/runs/a") == ""


def test_a_folder_that_cannot_be_written_to_is_no_mistake(tmp_path, monkeypatch, caplog):
    run = add_run(tmp_path, "good", EXTRACTION)

    def refuse(uri, text):
        raise PermissionError("read-only")

    monkeypatch.setattr("w2v2.reports.index_page.storage.write_text", refuse)
    with caplog.at_level("INFO"):
        assert write_index(str(run)) == ""
    assert "read-only" in caplog.text


@pytest.mark.parametrize("job", ["finetune", "evaluate", "baseline"])
def test_models_are_listed_by_their_headline(tmp_path, job):
    pooled = {"uar": 0.5, "intervals": {"uar": None, "undefined": {"uar": "3 speakers"}}}
    metrics = {"job": job, "kind": "classes", "chance_uar": 0.25, "pooled": pooled, "num_clips": 12}
    page = Path(write_index(str(add_run(tmp_path, "m", metrics)))).read_text()
    (row,) = rows_of(page)
    assert row[1:4] == [job, "UAR 50.0%", "undefined (3 speakers)"] and row[5] == "12"
