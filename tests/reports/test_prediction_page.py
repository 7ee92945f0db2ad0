"""The page of `w2v2 predict` for each kind of model: how many, what, over time, and how it was made."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.made.pages import read_page, visible_text
from tests.made.rejects import HOSTILE, reject_rows
from w2v2.config.command_line import dump
from w2v2.config.data import AudioConfig, TaskKind
from w2v2.config.finetune import PredictConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.models.model_info import ModelInfo
from w2v2.reports.prediction_page import write_prediction_report
from w2v2.storage import run_directory

NAMES = ("calm", "angry")


def info_of(kind: TaskKind) -> ModelInfo:
    return ModelInfo(
        kind=kind, groups=(NAMES,), audio=AudioConfig(), encoder=EncoderConfig(), head=HeadConfig(), normalize=True
    )  # fmt: skip


def rows_of(kind: TaskKind, num_rows: int) -> pa.Table:
    """Windows of two recordings; every third is angry."""
    rows: list[dict[str, Any]] = []
    for place in range(num_rows):
        angry = 0.75 if place % 3 == 0 else 0.25
        row: dict[str, Any] = {
            "clip_id": HOSTILE if place % 2 else "b.wav",
            "start_s": place / 2,
            "end_s": place / 2 + 0.5,
        }
        match kind:
            case "classes":
                row |= {
                    "predicted": "angry" if angry > 0.5 else "calm",
                    "prob_calm": 1 - angry,
                    "prob_angry": angry,
                }
            case "multi_label":
                row |= {"prob_calm": 1 - angry, "prob_angry": angry}
            case "regression":
                row |= {"pred_calm": -4 * angry, "pred_angry": 4 * angry}
            case _:
                row |= {"text": "dogs are sitting <b>", "confidence": angry}
        rows.append(row)
    return pa.Table.from_pylist(rows)


def page_of(run: Path, kind: TaskKind, *, window_s: float = 0.5, num_rows: int = 30) -> str:
    run.mkdir()
    config = replace(
        PredictConfig(model="m", run=str(run), window_s=window_s), table=str(run / "predictions.csv")
    )
    (run / "config.yaml").write_text(dump(config))
    metrics = {
        "job": "predict", "model": {"uri": "/m/model", "digest": "0f1e"}, "table": config.table, "num_clips": 3, "rejected": 1,
        "num_rows": num_rows, "seconds": 7.2, "versions": {"torch": "2.14"},
        "clips": {"given": 3, "used": 2, "rejected": {"too short": 1}, "passed_over": {}, "tolerated": {}},
    }  # fmt: skip
    (run / "metrics.json").write_text(json.dumps(metrics))
    run_directory.write_table(str(run), "rejects", pa.Table.from_pylist(reject_rows("x.wav")))
    uri = write_prediction_report(str(run), rows_of(kind, 30).slice(0, num_rows), info_of(kind))
    return Path(uri).read_text()


@pytest.mark.parametrize("kind", ["classes", "multi_label", "regression", "transcript"])
def test_it_begins_with_how_many_and_ends_with_how_it_was_made(tmp_path: Path, kind: TaskKind) -> None:
    html = page_of(tmp_path / "run", kind)
    text = visible_text(html)
    assert text.index("2 of 3 recordings have their predictions") < text.index("How it was made")
    assert (
        "Nothing here says how right these predictions are" in text
        and "w2v2 evaluate scores the model" in text
    )
    assert "The first 20 of 30 rows." in text and "too short" in text
    assert "model digest 0f1e" in text and f"w2v2 predict --config {tmp_path}/run/config.yaml" in text
    assert HOSTILE not in html and "script" not in read_page(html).tags and "<b>" not in html
    has_plot = kind != "transcript"
    assert (tmp_path / "run/plots/timeline.png").exists() is has_plot is ("at its middle" in text)


def test_what_is_predicted_in_all_is_counted(tmp_path: Path) -> None:
    text = visible_text(page_of(tmp_path / "classes", "classes"))
    assert "How often each class is predicted." in text and "calm 20 66.7% 58.3% angry 10 33.3% 41.7%" in text
    text = visible_text(page_of(tmp_path / "values", "regression"))
    assert "calm -1.667 angry 1.667" in text
    text = visible_text(page_of(tmp_path / "none", "classes", window_s=0.0, num_rows=0))
    assert "How often" not in text and "0 rows." not in text and "from (s)" not in text
