"""Runs whose scores prove little or are undefined: the page of a model says so."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.made.model_run import write_task_run
from tests.made.pictures import blank_pictures
from tests.reports.model_pages import metrics_of, text_of
from w2v2.reports.checks import model_checks
from w2v2.reports.model_page import write_model_report
from w2v2.reports.run_files import read_model_run


def rewrite(folder: Path, name: str, column: str, values) -> None:
    table = pq.read_table(folder / f"{name}.parquet")
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), folder / f"{name}.parquet")


def cares_of(folder: Path) -> str:
    run = read_model_run(str(folder))
    return " ".join(check.text for check in model_checks(run) if not check.is_good)


def test_speaker_and_recording_in_two_splits_ask_for_care(tmp_path):
    folder = write_task_run(tmp_path / "run", "regression")
    rewrite(folder, "manifest", "speaker", ["s25"] * 8 + [f"s{i // 7:02d}" for i in range(8, 182)])
    rewrite(folder, "manifest", "audio_digest", ["181", *map(str, range(1, 182))])
    cares = cares_of(folder)
    assert "Not speaker-independent: these speakers are in more than one split: s25." in cares
    assert "Recordings with an exact copy in another split: 1." in cares


def test_scores_that_prove_little_ask_for_care(tmp_path):
    def change(metrics):
        metrics["encoder"]["name"] = "tiny"
        metrics["num_speakers"], metrics["num_clips"] = 6, 5
        metrics["pooled"]["intervals"]["mean"]["ccc"] = [-0.1, 0.3]
        metrics["pooled"]["undefined"] = {"arousal": "its target is constant"}

    cares = cares_of(write_task_run(tmp_path / "run", "regression", change=change))
    assert "This run used random weights" in cares and "is over only 6 speakers" in cares
    assert "interval of mean CCC reaches down to -0.100; a model that learned nothing scores 0.000." in cares
    assert "Undefined: arousal (its target is constant)." in cares
    assert "predictions.parquet has 77 clips, metrics.json 5: they are not of the same run." in cares


@pytest.mark.parametrize("kind", ["classes", "multi_label", "regression"])
def test_page_of_scores_that_are_all_undefined(tmp_path, kind):
    """One speaker, one class or value: no score is defined, and the page reports that."""
    from w2v2.evaluation import scores

    folder = write_task_run(tmp_path / "run", kind)
    predictions = pq.read_table(folder / "predictions.parquet").slice(21, 1)
    names, midpoints = metrics_of(folder)["names"], [5.0, 5.0] if kind == "regression" else None
    metrics = scores.score_predictions(predictions, kind=kind, names=names, seed=0, midpoints=midpoints)
    metrics |= {"job": "evaluate", "computed_on": "one clip"}
    (folder / "metrics.json").write_text(json.dumps(metrics, allow_nan=False))
    pq.write_table(predictions, folder / "predictions.parquet")
    (folder / "curves.parquet").unlink()
    write_model_report(str(folder))
    text = text_of(folder)
    assert "95% interval undefined" in text and "it needs at least five speakers" in text
    assert "nan" not in text.lower().split() and "None" not in text


def test_samples_left_out_of_an_interval_are_counted(tmp_path, monkeypatch):
    blank_pictures(monkeypatch)

    def change(metrics):
        metrics["pooled"]["intervals"]["labels"]["hoarse"]["num_left_out"] = 17

    folder = write_task_run(tmp_path / "run", "multi_label", change=change)
    write_model_report(str(folder))
    assert "Of 1000 bootstrap samples, left out as undefined: hoarse 17." in text_of(folder)


@pytest.mark.parametrize("num", [0, 23])
def test_samples_without_a_class_are_counted(tmp_path, monkeypatch, num):
    blank_pictures(monkeypatch)

    def change(metrics):
        metrics["pooled"]["intervals"]["num_left_out"] = num

    folder = write_task_run(tmp_path / "run", "classes", change=change)
    write_model_report(str(folder))
    text = f"Of 1000 samples of speakers {num} lack a class and are left out of the intervals."
    assert (text in text_of(folder)) == (num > 0)
