"""RAVDESS's file names become clips and rejects."""

import logging
import math

import pytest

from tests.made.csv_clips import reasons
from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.corpora.ravdess import RAVDESS_CLASSES
from w2v2.errors import UserError

SPEECH = "03-01-06-01-02-01-12.wav"
SONG = "03-02-05-01-01-01-07.wav"


def folder(tmp_path, *names):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened here")
    return str(tmp_path)


def read_folder(tmp_path, *names, **data):
    return manifest.read(DataConfig(uri=folder(tmp_path, *names), **data))


def test_ravdess_name_becomes_a_clip(tmp_path):
    result = read_folder(tmp_path, f"Actor_12/{SPEECH}")
    assert result.clips.schema == manifest.CLIPS
    assert result.rejects.schema == manifest.REJECTS
    assert result.clips.to_pylist() == [
        {
            "clip_id": f"Actor_12/{SPEECH}",
            "uri": f"{tmp_path}/Actor_12/{SPEECH}",
            "start_s": 0.0,
            "end_s": math.inf,
            "speaker": "12",
            "split": "",
            "label": "fearful",
        }
    ]


def test_ravdess_whole_corpus(tmp_path):
    # The corpus as published: 24 actors x 60; neutral has no strong intensity.
    names = [
        f"Actor_{a:02}/03-01-{e:02}-{i:02}-{s:02}-{r:02}-{a:02}.wav"
        for a in range(1, 25)
        for e in range(1, 9)
        for i in (1, 2)
        for s in (1, 2)
        for r in (1, 2)
        if not (e == 1 and i == 2)
    ]
    result = read_folder(tmp_path, *names)
    assert len(result.clips) == 1440
    assert len(result.rejects) == 0
    counts = {row["values"]: row["counts"] for row in result.clips["label"].value_counts().to_pylist()}
    assert counts == {"neutral": 96} | dict.fromkeys(RAVDESS_CLASSES[1:], 192)
    assert {row["counts"] for row in result.clips["speaker"].value_counts().to_pylist()} == {60}
    assert result.clips["clip_id"].to_pylist() == sorted(names)
    manifest.check(result, max_reject_fraction=0.0)


def test_ravdess_same_name_in_two_folders_stays_two_clips(tmp_path):
    result = read_folder(tmp_path, f"a/{SPEECH}", f"a/b/c/{SPEECH}", SPEECH)
    assert result.clips["clip_id"].to_pylist() == [SPEECH, f"a/{SPEECH}", f"a/b/c/{SPEECH}"]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".WAV", ".Mp3"])
def test_ravdess_takes_every_audio_suffix(tmp_path, suffix):
    result = read_folder(tmp_path, f"03-01-01-01-01-01-01{suffix}")
    assert result.clips["label"].to_pylist() == ["neutral"]


@pytest.mark.parametrize("uri", ["{0}/", "{0}/../{1}", "~/{1}"])
def test_ravdess_clip_id_does_not_depend_on_how_the_folder_is_written(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    folder(tmp_path, f"x/{SPEECH}")
    result = manifest.read(DataConfig(uri=uri.format(tmp_path, tmp_path.name)))
    assert result.clips["clip_id"].to_pylist() == [f"x/{SPEECH}"]
    assert result.clips["uri"].to_pylist() == [f"{tmp_path}/x/{SPEECH}"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("04-01-01-01-01-01-01", "field 1 (modality) is 04, wanted 01 to 03"),
        ("03-03-01-01-01-01-01", "field 2 (vocal channel) is 03, wanted 01 to 02"),
        ("03-01-09-01-01-01-01", "field 3 (emotion) is 09, wanted 01 to 08"),
        ("03-01-00-01-01-01-01", "field 3 (emotion) is 00, wanted 01 to 08"),
        ("03-01-02-03-01-01-01", "field 4 (intensity) is 03, wanted 01 to 02"),
        ("03-01-02-01-03-01-01", "field 5 (statement) is 03, wanted 01 to 02"),
        ("03-01-02-01-01-03-01", "field 6 (repetition) is 03, wanted 01 to 02"),
        ("03-01-02-01-01-01-25", "field 7 (actor) is 25, wanted 01 to 24"),
        ("03-01-01-02-01-01-01", "field 4 (intensity) is 02, but neutral (01) has no strong intensity"),
        ("03-01-02-01-01-01", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
        ("03-01-02-01-01-01-01-01", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
        ("3-1-2-1-1-1-1", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
        ("03-01-02-01-01-01-0٣", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
        ("hello", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
    ],
)
def test_ravdess_bad_name_is_a_reject(tmp_path, name, reason):
    result = read_folder(tmp_path, f"{name}.wav", SPEECH)
    assert reasons(result) == {f"{name}.wav": f"name not RAVDESS: {reason}"}
    assert result.rejects["uri"].to_pylist() == [f"{tmp_path}/{name}.wav"]
    assert result.clips["clip_id"].to_pylist() == [SPEECH]


def test_ravdess_video_is_a_reject(tmp_path):
    result = read_folder(tmp_path, "01-01-02-01-01-01-01.wav", SPEECH)
    wanted = "video: field 1 (modality) is 01, wanted 03 (audio only)"
    assert reasons(result) == {"01-01-02-01-01-01-01.wav": wanted}


@pytest.mark.parametrize(
    ("channel", "names"), [("speech", [SPEECH]), ("song", [SONG]), ("both", [SPEECH, SONG])]
)
def test_ravdess_vocal_channel(tmp_path, caplog, channel, names):
    with caplog.at_level(logging.INFO, "w2v2"):
        result = read_folder(tmp_path, SPEECH, SONG, "README.txt", ".hidden.wav", vocal_channel=channel)
    assert result.clips["clip_id"].to_pylist() == names
    assert len(result.rejects) == 0
    message = f"data.vocal_channel={channel} leaves out 1 clip"
    assert (message in caplog.text) == (channel != "both")
    assert "passed over 1 file that is not audio" in caplog.text


def test_ravdess_only_the_other_vocal_channel(tmp_path):
    wanted = "has 1 RAVDESS clips, but none with data.vocal_channel=song: set --data.vocal_channel both"
    with pytest.raises(UserError, match=wanted):
        read_folder(tmp_path, SPEECH, vocal_channel="song")


def test_ravdess_folder_without_audio_says_what_it_has(tmp_path):
    names = ["a.txt", "b/c.TXT", "clips.csv", "LICENSE"]
    wanted = (
        r"holds no audio file \(.wav .wave .sph .flac [^)]*\), found 2 .txt, 1 no suffix, 1 .csv: give the"
    )
    with pytest.raises(UserError, match=wanted):
        read_folder(tmp_path, *names)


def test_ravdess_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"holds no audio file .*found no file at all: give the folder"):
        read_folder(tmp_path)


def test_ravdess_missing_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        manifest.read(DataConfig(uri=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("task", ["multi_label", "regression"])
@pytest.mark.parametrize("layout", ["auto", "ravdess"])
def test_ravdess_has_classes_alone(tmp_path, layout, task):
    wanted = (
        rf"read as RAVDESS, .*, got task.kind={task}: .* data.target_columns, or set --data.layout clinic"
    )
    with pytest.raises(UserError, match=wanted):
        manifest.read(DataConfig(uri=folder(tmp_path, SPEECH), layout=layout), task=task)
