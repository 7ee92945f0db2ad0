"""Slices and calibration of a predictions table, as metrics.json, lines and the page have them."""

import json

import numpy as np
import pyarrow as pa
import pytest

from w2v2.evaluation.details import class_details, detail_lines
from w2v2.reports.blocks import Paragraph, Table
from w2v2.reports.details_sections import calibration, slices

CLASSES = ["angry", "calm"]


@pytest.fixture(scope="module")
def tables():
    """Twelve actors; the odd ones, men, are recognised better, and only some clips have a device."""
    rng = np.random.default_rng(0)
    rows = []
    for actor in range(1, 13):
        for k in range(16):
            target = k % 2
            right = rng.random() < (0.95 if actor % 2 else 0.6)
            sure = 0.5 + 0.49 * rng.random()
            probability = sure if (target if right else 1 - target) == 0 else 1 - sure
            name = f"{actor:02}/03-01-0{2 + target}-0{1 + k // 8}-0{1 + k // 4 % 2}-0{1 + k // 2 % 2}-{actor:02}.wav"
            row = {
                "clip_id": name,
                "speaker": f"{actor:02}",
                "fold": (actor - 1) // 2,
                "device": ["", "x", "y"][k % 3],
            }
            row |= {"target": CLASSES[target], "predicted": CLASSES[0 if probability > 0.5 else 1]}
            rows.append(row | {"prob_angry": probability, "prob_calm": 1 - probability})
    table = pa.Table.from_pylist(rows)
    return table.drop_columns(["device"]), table.select(["clip_id", "device"]).take(
        list(range(len(table) - 1, -1, -1))
    )


@pytest.fixture(scope="module")
def metrics(tables):
    return class_details(*tables, CLASSES, columns=["device"], seed=0)


def test_every_slice_and_the_calibration_are_reported(metrics):
    assert set(metrics["slices"]) == {"sex", "intensity", "statement", "device"}
    sex = metrics["slices"]["sex"]
    assert (sex["gap"]["highest"], sex["gap"]["lowest"]) == ("man", "woman") and sex["p"] < 0.02
    assert sex["gap"]["interval"][0] > 0 and metrics["slices"]["statement"]["p"] > 0.02
    assert sum(v["num_clips"] for v in metrics["slices"]["device"]["values"].values()) < 12 * 16
    assert set(metrics["calibration"]["temperature"]["by_fold"]) == set("012345")
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_the_order_of_the_manifest_changes_nothing(tables, metrics):
    predictions, clips = tables
    again = class_details(
        predictions, clips.take(list(range(len(clips) - 1, -1, -1))), CLASSES, columns=["device"], seed=0
    )
    assert again == metrics


def test_lines_and_blocks(metrics):
    text = "\n".join(detail_lines(metrics))
    assert "by sex: man 0." in text and "woman 0." in text and ", p 0.00" in text
    assert "calibration error 0." in text and "after a temperature fitted on the other folds" in text
    blocks = slices(metrics)
    table = next(block for block in blocks if isinstance(block, Table))
    assert len(table.rows) == 8 and table.rows[0][:2] == ["sex", "man"]
    texts = " ".join(block.text for block in blocks if isinstance(block, Paragraph))
    assert "By sex, man is above woman by +" in texts
    assert [block.name for block in calibration(metrics, {}) if isinstance(block, Table)] == [
        "calibration",
        "reliability",
    ]
    assert detail_lines({}) == [] and slices({}) == [] and calibration({}, {}) == []


def test_a_column_with_one_value_is_named_where_it_was_asked_for(tables):
    predictions, clips = tables
    same = clips.set_column(1, "device", pa.array(["x"] * len(clips)))
    by_column = class_details(predictions, same, CLASSES, columns=["device"], seed=0)
    assert "by device: undefined, 1 different values, wanted 2 to 20" in detail_lines(by_column)
    assert "By device nothing is compared" in " ".join(
        b.text for b in slices(by_column) if isinstance(b, Paragraph)
    )
