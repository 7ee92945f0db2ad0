"""Corpora become clips and rejects; every mistake says what to do."""

import logging

import pyarrow as pa
import pytest

from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.made.csv_clips import csv_file, read_csv
from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.rejects import kinds_of
from w2v2.errors import Reject, UserError

SPEECH = "03-01-06-01-02-01-12.wav"


def test_layout_can_be_set_against_the_name(tmp_path):
    uri = csv_file(tmp_path, "uri,label,speaker\na.wav,x,s\n", name="list.txt")
    assert manifest.read(DataConfig(uri=uri, layout="csv")).clips["label"].to_pylist() == ["x"]
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / SPEECH).touch()
    uri = str(tmp_path / "folder.csv")
    assert manifest.read(DataConfig(uri=uri, layout="ravdess")).clips["label"].to_pylist() == ["fearful"]


# gs://


@pytest.fixture(scope="module")
def bucket():
    """A loopback bucket with two RAVDESS clips and a CSV that names one of them and one elsewhere."""
    with FakeGcs("corpus") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in gcs_environment(server).items():
            patch.setenv(name, value)
        server.put("corpus", f"ravdess/Actor_12/{SPEECH}", b"x")
        server.put("corpus", "ravdess/Actor_02/03-01-03-01-02-01-02.wav", b"x")
        server.put("corpus", "ravdess/notes.txt", b"x")
        rows = f"uri,label,speaker\nActor_12/{SPEECH},fearful,12\ngs://elsewhere/b.wav,happy,7\n"
        server.put("corpus", "ravdess/clips.csv", rows.encode())
        yield server


@pytest.mark.parametrize("uri", ["gs://corpus/ravdess", "gs://corpus/ravdess/"])
def test_gs_folder(bucket, uri):
    clips = manifest.read(DataConfig(uri=uri)).clips
    assert clips["clip_id"].to_pylist() == ["Actor_02/03-01-03-01-02-01-02.wav", f"Actor_12/{SPEECH}"]
    assert clips["uri"].to_pylist() == [
        f"gs://corpus/ravdess/{name}" for name in clips["clip_id"].to_pylist()
    ]
    assert clips["label"].to_pylist() == ["happy", "fearful"]


def test_gs_whole_bucket(bucket):
    clips = manifest.read(DataConfig(uri="gs://corpus")).clips
    assert clips["clip_id"].to_pylist()[1] == f"ravdess/Actor_12/{SPEECH}"


def test_gs_csv(bucket):
    clips = manifest.read(DataConfig(uri="gs://corpus/ravdess/clips.csv")).clips
    assert clips["uri"].to_pylist() == [f"gs://corpus/ravdess/Actor_12/{SPEECH}", "gs://elsewhere/b.wav"]


def test_gs_missing(bucket):
    with pytest.raises(UserError, match="gs://corpus/nowhere"):
        manifest.read(DataConfig(uri="gs://corpus/nowhere"))


# Classes


LABELS = "uri,label,speaker\na.wav,calm,s\nb.wav,neutral,s\nc.wav,happy,t\nd.wav,sad,t\n"


def test_classes_merge_rename_and_drop(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "w2v2.data.manifest"):
        result = read_csv(tmp_path, LABELS, classes={"calm": "neutral", "happy": "joy", "sad": "drop"})
    assert result.clips["label"].to_pylist() == ["neutral", "neutral", "joy"]
    assert result.clips["clip_id"].to_pylist() == ["a.wav", "b.wav", "c.wav"]
    assert len(result.rejects) == 0
    assert "data.classes leaves out 1 clip" in caplog.text


def test_classes_are_swapped_not_chained(tmp_path):
    result = read_csv(tmp_path, LABELS, classes={"calm": "neutral", "neutral": "calm"})
    assert result.clips["label"].to_pylist() == ["neutral", "calm", "happy", "sad"]


def test_a_class_called_drop_is_kept_unless_asked(tmp_path):
    result = read_csv(tmp_path, "uri,label,speaker\na.wav,drop,s\nb.wav,lift,s\n")
    assert result.clips["label"].to_pylist() == ["drop", "lift"]


def test_classes_unknown(tmp_path):
    wanted = "data.classes names 'Calm', which no clip has; the classes found are 'neutral', 'calm', 'happy', 'sad'"
    with pytest.raises(UserError, match=wanted):
        read_csv(tmp_path, LABELS, classes={"Calm": "neutral"})


def test_classes_all_dropped(tmp_path):
    with pytest.raises(UserError, match=r"data.classes drops all 4 clips: keep at least two"):
        read_csv(tmp_path, LABELS, classes=dict.fromkeys(["calm", "neutral", "happy", "sad"], "drop"))


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["sad", "neutral", "happy", "calm"], ["neutral", "calm", "happy", "sad"]),
        (["surprised", "disgust"], ["disgust", "surprised"]),
        (["sad", "neutral", "joy", "calm"], ["calm", "joy", "neutral", "sad"]),
        ([], []),
    ],
)
def test_classes_of(tmp_path, labels, wanted):
    rows = [{"clip_id": str(i), "label": label} for i, label in enumerate(labels)]
    assert manifest.classes_of(pa.Table.from_pylist(rows, schema=manifest.CLIPS)) == wanted


# check and with_rejects


def reject(kind, detail="", place=""):
    return Reject(kind=kind, detail=detail, place=place)


def made(num_clips, rejected=(), labels=("x", "y")):
    clips = [
        {"clip_id": f"c{i}", "uri": f"/c{i}.wav", "label": labels[i % len(labels)]} for i in range(num_clips)
    ]
    bad = [
        {
            "clip_id": f"r{i}",
            "uri": f"/r{i}.wav",
            "reason": one.reason,
            "kind": one.kind,
            "detail": one.detail,
        }
        for i, one in enumerate(rejected)
    ]
    return manifest.Manifest(
        clips=pa.Table.from_pylist(clips, schema=manifest.CLIPS),
        rejects=pa.Table.from_pylist(bad, schema=manifest.REJECTS),
    )


def test_check_of_nothing():
    with pytest.raises(UserError, match=r"nothing was found: no clip and no reject; look at data.uri"):
        manifest.check(made(0), max_reject_fraction=1.0)


def test_check_of_all_rejected(tmp_path):
    corpus = made(0, [reject("too short", "1"), reject("too short", "2")])
    wanted = r"all 2 clips were rejected: too short \(2\) \(such as r0: too short: 1"
    with pytest.raises(UserError, match=wanted + "; all are in rejects.parquet"):
        manifest.check(corpus, max_reject_fraction=1.0, run=str(tmp_path))
    assert (tmp_path / "rejects.parquet").exists()
    with pytest.raises(UserError, match=wanted + r"\)$"):  # no file is named that is not written
        manifest.check(corpus, max_reject_fraction=1.0)


def test_a_folder_of_other_recordings_than_ravdess_needs_a_table(tmp_path):
    for name in ("anna 1.wav", "ben 1.wav"):
        (tmp_path / name).write_bytes(b"")
    corpus = manifest.read(DataConfig(uri=str(tmp_path)))
    wanted = r"all 2 clips were rejected: name not RAVDESS .*; for a folder of other recordings give a table of its clips"
    with pytest.raises(UserError, match=wanted):
        manifest.check(corpus, max_reject_fraction=1.0)


def test_check_of_too_many_rejects_names_the_three_commonest_reasons(tmp_path):
    rejected = [reject("label is empty", place=f"row {n}") for n in (2, 9)]
    rejected += [reject("uri is empty", place="row 11"), reject("silent", "0.0")]
    rejected += [reject("too short", f"0.0{i} s") for i in range(5)]
    rejected += [reject("truncated", name) for name in "abc"]
    wanted = (
        r"12 of 100 clips were rejected, more than the fraction data.max_reject_fraction=0.1: "
        r"too short \(5\), truncated \(3\), label is empty \(2\) \(such as r0: row 2: label is empty; "
        r".*rejects.parquet.*--data.max_reject_fraction"
    )
    with pytest.raises(UserError, match=wanted):
        manifest.check(made(88, rejected), max_reject_fraction=0.1, run=str(tmp_path))


def test_kinds_are_counted_whatever_colons_paths_and_drives_the_details_have():
    rejected = [
        reject("missing", f"{place}/{i}.wav: no such file")
        for i, place in enumerate(["/data: old", "C:\\a", "gs://b"])
    ]
    rejected += [
        reject("not audio", "header: RIFF: 4 bytes"),
        reject("a: b is empty", place="row 3 of x: y.csv"),
    ]
    corpus = made(5, rejected)
    assert kinds_of(corpus.rejects) == ["missing"] * 3 + ["not audio", "a: b is empty"]
    with pytest.raises(
        UserError,
        match=r"missing \(3\), not audio \(1\), a: b is empty \(1\) \(such as r0: missing: /data: old/0.wav",
    ):
        manifest.check(corpus, max_reject_fraction=0.1)


def test_rejects_of_an_earlier_version_have_their_reasons_for_kinds():
    before = pa.table({"clip_id": ["a", "b"], "uri": ["", ""], "reason": ["C:\\x: gone", "silent: 0"]})
    assert kinds_of(before) == ["C:\\x: gone", "silent: 0"]


def test_check_allows_the_fraction_itself():
    manifest.check(made(9, [reject("silent", "0")]), max_reject_fraction=0.1)
    with pytest.raises(UserError, match="2 of 11"):
        manifest.check(made(9, [reject("silent", "0")] * 2), max_reject_fraction=0.1)


def test_check_of_one_class():
    wanted = "all 5 clips have the class 'x', wanted two classes or more: look at data.label_column and data.classes"
    with pytest.raises(UserError, match=wanted):
        manifest.check(made(5, labels=["x"]), max_reject_fraction=0.0)


def test_with_rejects_moves_clips():
    before = made(5, [reject("silent", "0")])
    after = manifest.with_rejects(
        before, [("c3", reject("not audio", "png")), ("c1", reject("too long", "99 s"))]
    )
    assert after.clips["clip_id"].to_pylist() == ["c0", "c2", "c4"]
    assert after.rejects.to_pylist() == [
        {"clip_id": "r0", "uri": "/r0.wav", "reason": "silent: 0", "kind": "silent", "detail": "0"},
        {"clip_id": "c1", "uri": "/c1.wav", "reason": "too long: 99 s", "kind": "too long", "detail": "99 s"},
        {"clip_id": "c3", "uri": "/c3.wav", "reason": "not audio: png", "kind": "not audio", "detail": "png"},
    ]
    assert after.clips.schema == manifest.CLIPS
    assert len(before.clips) == 5
    assert manifest.with_rejects(before, []) == before


def test_with_rejects_of_a_missing_clip_is_our_bug():
    with pytest.raises(AssertionError, match="elsewhere"):
        manifest.with_rejects(made(3), [("elsewhere", reject("silent", "0"))])


# -- clips without labels


def test_files_are_clips_named_by_their_path(tmp_path):
    for name in ("b/two.FLAC", "one.wav", "03-01-06-01-02-01-12.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    for layout in ("files", "auto"):
        corpus = manifest.read(DataConfig(uri=str(tmp_path), layout=layout), task="none")
        assert corpus.clips["clip_id"].to_pylist() == ["03-01-06-01-02-01-12.wav", "b/two.FLAC", "one.wav"]
        assert corpus.clips["uri"][1].as_py() == str(tmp_path / "b/two.FLAC")
        assert set(corpus.clips["label"].to_pylist()) == set(corpus.clips["speaker"].to_pylist()) == {""}
        assert corpus.clips.schema == manifest.CLIPS and not len(corpus.rejects)
        manifest.check_rejects(corpus, max_reject_fraction=0)


def test_folder_of_ravdess_names_has_labels_where_none_are_needed(tmp_path):
    (tmp_path / "03-01-06-01-02-01-12.wav").touch()
    corpus = manifest.read(DataConfig(uri=str(tmp_path)), task="none")
    assert corpus.clips["label"].to_pylist() == ["fearful"]
    corpus = manifest.read(DataConfig(uri=str(tmp_path), layout="files"), task="none")
    assert corpus.clips["label"].to_pylist() == [""]


def test_files_are_refused_where_labels_are_needed(tmp_path):
    with pytest.raises(UserError, match=r"data.layout is files, which has no labels .* give a CSV"):
        manifest.read(DataConfig(uri=str(tmp_path), layout="files"))
