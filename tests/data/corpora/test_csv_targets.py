"""Several labels or values per clip in a CSV."""

import pyarrow as pa
import pytest

from tests.made.csv_clips import csv_file, reasons
from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.errors import Reject, UserError

TARGETS = "uri,speaker,tremor,breathy,pitch\na.wav,p,1,0,101.5\nb.wav,q,,1,-2e1\nc.wav,q,0.0,,\n"


def read_targets(tmp_path, text, task, *columns, **data):
    return manifest.read(
        DataConfig(uri=csv_file(tmp_path, text), target_columns=columns, **data), task=task, extra_columns=()
    )


def test_labels_are_one_head_and_missing_ones_are_null(tmp_path):
    result = read_targets(tmp_path, TARGETS, "multi_label", "breathy", "tremor")
    assert result.groups == (("breathy", "tremor"),)
    assert result.clips.schema.names == [*manifest.CLIPS.names, "target_breathy", "target_tremor"]
    assert result.clips.schema.field("target_tremor").type == pa.float64()
    assert result.clips["target_tremor"].to_pylist() == [1.0, None, 0.0]
    assert result.clips["target_breathy"].to_pylist() == [0.0, 1.0, None]
    assert result.clips["speaker"].to_pylist() == ["p", "q", "q"]
    assert set(result.clips["label"].to_pylist()) == {""}
    assert manifest.with_rejects(result, [("a.wav", Reject(kind="silent"))]).groups == result.groups


def test_values_are_a_head_each_and_a_clip_without_any_is_a_reject(tmp_path):
    result = read_targets(tmp_path, TARGETS, "regression", "pitch")
    assert result.groups == (("pitch",),)
    assert result.clips["target_pitch"].to_pylist() == [101.5, -20.0]
    assert reasons(result) == {"c.wav": "row 4: no target: 'pitch' is empty"}
    both = read_targets(tmp_path, TARGETS, "regression", "pitch", "tremor")
    assert both.groups == (("pitch",), ("tremor",)) and len(both.clips) == 3


def test_labels_need_no_column_label_but_may_have_one(tmp_path):
    text = "uri,speaker,label,tremor\na.wav,p,shaking,1\n"
    result = read_targets(tmp_path, text, "multi_label", "tremor", label_column="label")
    assert result.clips["label"].to_pylist() == [""]


@pytest.mark.parametrize(
    ("task", "cell", "reason"),
    [
        ("multi_label", "0.5", "bad target: tremor is '0.5', wanted 0, 1 or empty"),
        ("multi_label", "-", "bad target: tremor is '-', wanted 0, 1 or empty"),
        ("multi_label", "NaN", "bad target: tremor is 'NaN', wanted 0, 1 or empty"),
        ("regression", "NaN", "bad target: tremor is 'NaN', wanted a number or empty"),
        ("regression", "1e999", "bad target: tremor is '1e999', wanted a number or empty"),
        ("regression", "1;5", "bad target: tremor is '1;5', wanted a number or empty"),
        ("regression", "", "no target: 'tremor' is empty"),
    ],
)
def test_bad_target_is_a_reject(tmp_path, task, cell, reason):
    text = f"uri,speaker,tremor\na.wav,p,1\nb.wav,q,{cell}\n"
    result = read_targets(tmp_path, text, task, "tremor")
    assert reasons(result) == {"b.wav": f"row 3: {reason}"}
    assert result.clips["clip_id"].to_pylist() == ["a.wav"]


def test_targets_that_are_missing_in_the_file(tmp_path):
    wanted = r"has no column 'hoarse', its columns are 'uri', .*: set --data.target_columns"
    with pytest.raises(UserError, match=wanted):
        read_targets(tmp_path, TARGETS, "multi_label", "tremor", "hoarse")


@pytest.mark.parametrize(("task", "what"), [("multi_label", "labels"), ("regression", "values")])
def test_targets_that_nobody_named(tmp_path, task, what):
    wanted = (
        f"data.target_columns is empty, but task.kind={task} wants the columns of its {what}: "
        "set --data.target_columns to some of 'uri', 'speaker', 'tremor', 'breathy', 'pitch'"
    )
    with pytest.raises(UserError, match=wanted):
        read_targets(tmp_path, TARGETS, task)


def test_targets_named_twice(tmp_path):
    with pytest.raises(UserError, match=r"data.target_columns names 'tremor' twice: name each column once"):
        read_targets(tmp_path, TARGETS, "multi_label", "tremor", "breathy", "tremor")


def test_targets_are_not_for_classes(tmp_path):
    wanted = (
        r"data.target_columns \('tremor'\) is for several labels or values, got task.kind=classes: set --task"
    )
    with pytest.raises(UserError, match=wanted):
        read_targets(tmp_path, TARGETS, "classes", "tremor")


def test_targets_want_a_speaker(tmp_path):
    with pytest.raises(UserError, match=r"has no column 'speaker', .*: set --data.speaker_column"):
        read_targets(tmp_path, "uri,tremor\na.wav,1\n", "multi_label", "tremor")
    result = read_targets(tmp_path, TARGETS.replace(",q,,", ",,,"), "multi_label", "tremor", "breathy")
    assert reasons(result) == {"b.wav": "row 3: speaker is empty"}


def test_targets_and_renamed_classes(tmp_path):
    wanted = "data.classes renames classes, got task.kind=regression, which has none: remove data.classes"
    with pytest.raises(UserError, match=wanted):
        read_targets(tmp_path, TARGETS, "regression", "pitch", classes={"a": "b"})


def test_targets_are_left_where_nothing_is_learned(tmp_path):
    result = read_targets(tmp_path, TARGETS, "none", "tremor")
    assert result.groups == () and result.clips.schema == manifest.CLIPS and len(result.clips) == 3
