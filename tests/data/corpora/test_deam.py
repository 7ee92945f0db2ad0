"""DEAM's annotations and songs become clips with valence and arousal."""

import logging
import re

import pytest

from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.made.corpora import deam_corpus
from tests.made.csv_clips import reasons
from w2v2.config.data import DataConfig, FoldsConfig, SplitConfig
from w2v2.data import manifest, splits
from w2v2.errors import UserError

HEADER = "song_id, valence_mean, valence_std, arousal_mean, arousal_std\n"
FIRST = "notes/song level/static_annotations_averaged_songs_1_2000.csv"
SECOND = "notes/song level/static_annotations_averaged_songs_2000_2058.csv"


def read(tmp_path, tables, songs=("MEMD_audio/2.mp3", "MEMD_audio/10.mp3"), *, task="regression", **kwargs):
    for name, text in {**dict.fromkeys(songs, "not opened here"), **tables}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return manifest.read(DataConfig(uri=str(tmp_path), layout="deam"), task=task, **kwargs)


def test_files_of_annotations_are_joined(tmp_path):
    # As published: the later file has further columns, in another order.
    later = "song_id, arousal_mean, arousal_max_mean, valence_mean, valence_std\n2001, 5.5, 8, 4.25, 1\n"
    songs = ("MEMD_audio/10.mp3", "MEMD_audio/2.mp3", "more/deeper/2001.FLAC")
    result = read(tmp_path, {FIRST: HEADER + "10,6,1.2,3.5,1\n2,3.1,0.94,3,0.63\n", SECOND: later}, songs)
    assert result.groups == (("valence",), ("arousal",))
    assert not len(result.rejects)
    keep = ["clip_id", "speaker", "split", "label", "target_valence", "target_arousal"]
    assert result.clips.select(keep).to_pylist() == [
        dict(zip(keep, row, strict=True))
        for row in [
            ("2", "2", "", "", 3.1, 3.0),
            ("10", "10", "", "", 6.0, 3.5),
            ("2001", "2001", "", "", 4.25, 5.5),
        ]
    ]
    assert result.clips["uri"].to_pylist() == [f"{tmp_path}/{songs[i]}" for i in (1, 0, 2)]


def test_annotations_of_ones_own(tmp_path):
    # As a notebook writes them, with one value missing.
    result = read(tmp_path, {"annotations.csv": "song_id,valence,arousal\n002,0.5,\n10,-1,1\n"})
    assert result.clips["target_valence"].to_pylist() == [0.5, -1.0]
    assert result.clips["target_arousal"].to_pylist() == [None, 1.0]


def test_songs_and_annotations_without_each_other(tmp_path, caplog):
    songs = ("2.mp3", "3.mp3", "10.mp3", "jingle.mp3")
    text = HEADER + "2,1,1,1,1\n4,1,1,1,1\n10,2,1,2,1\n"
    with caplog.at_level(logging.INFO, "w2v2"):
        result = read(tmp_path, {FIRST: text, "dynamic/arousal.csv": "song_id,x\n2,1\n"}, songs)
    assert result.clips["clip_id"].to_pylist() == ["2", "10"]
    wanted = f"row 3 of static_annotations_averaged_songs_1_2000.csv: missing: no 4.wav, .mp3 or other audio below {tmp_path}"
    assert reasons(result) == {"4": wanted}
    assert "1 songs have no annotation and are left out" in caplog.text
    assert "passed over 1 audio files whose name is no number" in caplog.text
    with pytest.raises(UserError, match=r"1 of 3 clips .*: missing \(1\) \(such as 4: row 3 of static"):
        manifest.check_rejects(result, max_reject_fraction=0.1)


@pytest.mark.parametrize(
    ("row", "clip_id", "reason"),
    [
        ("10,,1,,1", "10", "no target: 'valence', 'arousal' are all empty"),
        ("10,high,1,2,1", "10", "bad target: valence is 'high', wanted a number or empty"),
        ("10,2,1,nan,1", "10", "bad target: arousal is 'nan', wanted a number or empty"),
        ("ten,2,1,2,1", "row 3 of annotations.csv", "bad song_id: 'ten', wanted a number"),
        (",2,1,2,1", "row 3 of annotations.csv", "bad song_id: '', wanted a number"),
        ("10,2,1", "10", "wrong number of fields: 3, the header has 5"),
    ],
)
def test_bad_row_is_a_reject(tmp_path, row, clip_id, reason):
    result = read(tmp_path, {"annotations.csv": f"{HEADER}2,1,1,1,1\n{row}\n"})
    assert reasons(result) == {clip_id: f"row 3 of annotations.csv: {reason}"}
    assert result.clips["clip_id"].to_pylist() == ["2"]


def test_short_row_whose_columns_are_in_another_order(tmp_path):
    text = "valence_mean,arousal_mean,song_id\n1,2,2\n3,4\n"
    result = read(tmp_path, {"annotations.csv": text})
    assert reasons(result) == {
        "row 3 of annotations.csv": "row 3 of annotations.csv: bad song_id: '', wanted a number"
    }


def test_songs_alone_where_nothing_is_learned(tmp_path):
    result = read(tmp_path, {}, task="none")
    assert result.clips["clip_id"].to_pylist() == ["2", "10"] and result.groups == ()
    assert result.clips.schema == manifest.CLIPS


@pytest.mark.parametrize("task", ["classes", "multi_label"])
def test_other_tasks_are_refused(tmp_path, task):
    wanted = (
        f"data.layout=deam has two values for each song, got task.kind={task}: set --task.kind regression"
    )
    with pytest.raises(UserError, match=wanted):
        read(tmp_path, {}, task=task)


def test_extra_columns_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no extra columns, but 'genre' are asked for"):
        read(tmp_path, {}, extra_columns=["genre"])


@pytest.mark.parametrize(
    ("tables", "songs", "wanted"),
    [
        (
            {FIRST: HEADER + "2,1,1,1,1\n3,1,1,1,1\n02,1,1,1,1\n"},
            ("2.mp3",),
            r"song 2 is annotated twice, in row 2 of static_.*1_2000.csv and in row 4 of static_.*: keep one",
        ),
        (
            {FIRST: HEADER + "2,1,1,1,1\n", SECOND: HEADER + "2,1,1,1,1\n"},
            ("2.mp3",),
            r"song 2 is annotated twice, in row 2 of static_.*1_2000.csv and in row 2 of static_.*2000_2058.csv",
        ),
        (
            {FIRST: HEADER},
            ("a/2.mp3", "b/02.wav"),
            "song 2 appears twice, as a/2.mp3 and b/02.wav, .*: remove one",
        ),
        (
            {"other.csv": HEADER},
            ("2.mp3",),
            r"has no static_annotations_averaged_songs_1_2000.csv .* below it",
        ),
        (
            {FIRST: HEADER},
            ("a.mp3", "b.mp3"),
            r"no song named by its number, as 12.mp3, among its 2 audio files",
        ),
        ({FIRST: HEADER}, (), r"holds no audio file .*found 1 .csv"),
        (
            {"annotations.csv": "id,valence,arousal\n"},
            ("2.mp3",),
            r"annotations.csv has no column 'song_id', its columns are 'id', .*wanted DEAM's columns",
        ),
        (
            {"annotations.csv": "song_id,valence_mean,energy\n"},
            ("2.mp3",),
            r"annotations.csv has no column 'arousal_mean', its columns .*: wanted DEAM's columns song_id, val",
        ),
    ],
)
def test_folder_that_cannot_be_used(tmp_path, tables, songs, wanted):
    with pytest.raises(UserError, match=wanted):
        read(tmp_path, tables, songs)


def test_annotations_without_rows(tmp_path):
    with pytest.raises(UserError, match="nothing was found"):
        manifest.check_rejects(read(tmp_path, {FIRST: HEADER}), max_reject_fraction=0)


def test_corpus_local_and_in_a_bucket(tmp_path):
    folder = deam_corpus(tmp_path / "deam")
    local = manifest.read(DataConfig(uri=str(folder), layout="deam"), task="regression")
    assert len(local.clips) == 24 and not len(local.rejects)
    with FakeGcs("deam") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in gcs_environment(server).items():
            patch.setenv(name, value)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes() if path.suffix == ".csv" else b"x"
            server.put("deam", str(path.relative_to(folder)), content)
        result = manifest.read(DataConfig(uri="gs://deam/", layout="deam"), task="regression")
        assert sum(request.path.endswith("/o") for request in server.requests) == 1
        assert len(server.requests) == 3
    assert result.clips.drop_columns("uri").equals(local.clips.drop_columns("uri"))
    assert all(re.fullmatch(r"gs://deam/audio/\d+\.mp3", uri) for uri in result.clips["uri"].to_pylist())
    clips = splits.assign(result.clips, SplitConfig(), FoldsConfig(), need_val=True)
    splits.audit(clips)
    assert [clips["split"].to_pylist().count(name) for name in ("train", "val", "test")] == [17, 2, 5]
