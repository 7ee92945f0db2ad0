"""The speakers of a clinic's recordings, by its tables and its metadata.json files."""

import logging

import pytest

from tests.made.clinic_folder import TRAIN, column, make, read
from tests.made.csv_clips import reasons
from w2v2.config.data import DataConfig
from w2v2.data.corpora import recordings

NO_SPEAKER = "uid,tremor,breathy\nr1,1,0\nu3,0,1\nu4,1,1\n"


def read_speakers(tmp_path, metadata, train=NO_SPEAKER, **data):
    """The folder with these contents of metadata.json."""
    make(tmp_path, test=None)
    for name, content in metadata.items():
        (tmp_path / name / "metadata.json").write_text(content)
    return read(tmp_path, files=(), train=train, test=None, data=data)


def test_metadata_names_the_speaker_where_the_table_does_not(tmp_path, caplog):
    metadata = {"B/u3": '{"speaker": 17, "x": 1}', "u4": '{"patient": "bo", "speaker": " ann "}'}
    with caplog.at_level(logging.WARNING, "w2v2"):
        result = read_speakers(tmp_path, metadata)
    assert column(result, "speaker") == {"A/r1.wav": "A/r1.wav", "B/u3": "17", "u4": "ann"}
    wanted = "1 of 3 recordings have no speaker, neither a column 'speaker' nor that key in metadata.json: "
    (message,) = caplog.messages
    assert message.startswith(wanted) and message.endswith("set --data.speaker_column")


def test_speaker_column_names_the_key_of_metadata_too(tmp_path):
    metadata = {"B/u3": '{"patient": "ann"}', "u4": '{"patient": null}'}
    result = read_speakers(tmp_path, metadata, speaker_column="patient")
    assert list(column(result, "speaker").values()) == ["A/r1.wav", "ann", "u4"]


def test_a_recording_without_speaker_is_its_own_speaker_with_one_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "w2v2"):
        result = read_speakers(tmp_path, {"B/u3": "{}"})
    assert column(result, "speaker") == {name: name for name in ("A/r1.wav", "B/u3", "u4")}
    assert len(caplog.messages) == 1


def test_the_table_is_asked_before_metadata(tmp_path, caplog):
    result = read_speakers(tmp_path, {"B/u3": '{"speaker": "x"}'}, train=TRAIN)
    assert list(column(result, "speaker").values()) == ["p1", "p1", "p2"] and not caplog.messages


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("not opened here", "row 3 of train.csv: metadata not JSON: Expecting value"),
        ('["speaker"]', "row 3 of train.csv: metadata not JSON of keys and values: it is a list"),
    ],
)
def test_metadata_that_cannot_be_read_is_a_reject(tmp_path, content, reason):
    result = read_speakers(tmp_path, {"B/u3": content})
    assert reasons(result)["B/u3"].startswith(reason)
    assert result.rejects["uri"].to_pylist() == [f"{tmp_path}/B/u3/waveform.mp3"]
    assert result.clips["clip_id"].to_pylist() == ["A/r1.wav", "u4"]


def test_metadata_that_is_gone_by_the_time_it_is_read_is_a_reject(tmp_path):
    data, uris = DataConfig(), [str(tmp_path / "gone.json"), str(tmp_path / "there.json")]
    (tmp_path / "there.json").write_text('{"speaker": "ann"}')
    metadata = recordings.speakers_in(uris, data)
    assert metadata[uris[1]] == "ann"
    assert metadata[uris[0]].kind == "metadata unreadable" and "no such file" in metadata[uris[0]].detail
