"""Columns to compare clips by: RAVDESS's names, columns of a CSV, and what is refused."""

import pyarrow as pa
import pytest

from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.slices import slice_columns
from w2v2.errors import UserError


def test_names_of_ravdess_have_sex_intensity_and_statement():
    clips = pa.table(
        {
            "clip_id": ["Actor_01/03-01-06-01-02-01-01.wav", "Actor_12/03-01-06-02-01-01-12.wav"],
            "device": ["x", None],
        }
    )
    assert slice_columns(clips, ["device"]) == {
        "sex": ["man", "woman"],
        "intensity": ["normal", "strong"],
        "statement": ["dogs are sitting", "kids are talking"],
        "device": ["x", ""],
    }
    other = clips.set_column(0, "clip_id", pa.array(["Actor_01/03-01-06-01-02-01-01.wav", "my own.wav"]))
    assert slice_columns(other, []) == {}


def csv(tmp_path, **settings):
    path = tmp_path / "clips.csv"
    path.write_text("uri,label,speaker,device\na.wav,x,s,phone\nb.wav,y,t,\n")
    return DataConfig(uri=str(path), **settings)


def test_columns_of_a_csv_become_columns_of_clips(tmp_path):
    corpus = manifest.read(csv(tmp_path, slice_columns=("device",)))
    assert slice_columns(corpus.clips, ["device"]) == {"device": ["phone", ""]}
    assert "device" not in manifest.read(csv(tmp_path)).clips.column_names
    assert (
        "device"
        not in manifest.read(csv(tmp_path, slice_columns=("device",)), task="none").clips.column_names
    )


@pytest.mark.parametrize(
    ("names", "task", "message"),
    [
        (("speaker",), "classes", "data.slice_columns names 'speaker', which a clip has already"),
        (("device", "device"), "classes", "data.slice_columns names 'device', which a clip has already: name other columns"),
        (("device",), "regression", r"data.slice_columns \(.*device.*\) is for classes, got task.kind=regression"),
        (("age",), "classes", "age"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_slice_is_refused(tmp_path, names, task, message):
    with pytest.raises(UserError, match=message):
        manifest.read(csv(tmp_path, slice_columns=names), task=task)
