"""Corpora in shards: the same clips, rejects and numbers as read whole."""

import logging
import os
from dataclasses import replace

import pyarrow as pa
import pytest

from w2v2.config.data import DataConfig
from w2v2.data import clip_shards, file_facts, manifest
from w2v2.errors import UserError
from w2v2.storage import files as storage
from w2v2.storage import listing

NAMES = [
    "b/2.wav",
    "a/1.WAV",
    "a/x.txt",
    "a/.hidden.wav",
    ".d/1.wav",
    "c/large.flac",
    "c/old.wma",
    "c/3.mp3",
    "é/ü.ogg",
]


@pytest.fixture
def corpus(bucket, monkeypatch) -> DataConfig:
    for name in NAMES:
        bucket.put("speech", f"corpus/{name}", b"x" * (1000 if "large" in name else len(name)))
    monkeypatch.setattr(file_facts, "MAX_FILE_BYTES", 999)
    return DataConfig(uri="gs://speech/corpus")


def whole(data: DataConfig) -> manifest.Manifest:
    return file_facts.add_file_facts(manifest.read(data, task="none"), data)


def sharded(data: DataConfig, extra_columns=()) -> manifest.Manifest:
    shards = list(clip_shards.read_shards(data, extra_columns=extra_columns))
    passed_over: dict[str, int] = {}
    for shard in shards:
        assert len(shard.clips) <= clip_shards.SHARD_CLIPS
        for kind, number in shard.passed_over.items():
            passed_over[kind] = passed_over.get(kind, 0) + number
    return manifest.Manifest(
        clips=pa.concat_tables([shard.clips for shard in shards]),
        rejects=pa.concat_tables([shard.rejects for shard in shards]),
        passed_over=passed_over,
    )


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("layout", ["auto", "files"])
def test_a_folder_gives_the_clips_that_are_read_whole(corpus, monkeypatch, size, layout, caplog):
    corpus = replace(corpus, layout=layout)
    expected = whole(corpus)
    assert len(expected.clips) == 4 and len(expected.rejects) == 1
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", size)
    with caplog.at_level(logging.INFO):
        shards = sharded(corpus)
    assert shards.clips.equals(expected.clips)
    assert shards.rejects.equals(expected.rejects)
    assert shards.passed_over == expected.passed_over
    assert (
        "passed over 1 audio files of formats that are not read, such as gs://speech/corpus/c/old.wma"
        in caplog.text
    )


@pytest.mark.parametrize("size", [2, 3, 100])
def test_a_local_folder_gives_the_clips_that_are_read_whole(tmp_path, monkeypatch, size):
    for name in NAMES:
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (1000 if "large" in name else len(name)))
    (tmp_path / "corpus" / "a.wav").write_bytes(b"")
    (tmp_path / "corpus" / "a-b").mkdir()
    (tmp_path / "corpus" / "a-b" / "1.wav").symlink_to(tmp_path / "corpus" / "b" / "2.wav")
    monkeypatch.setattr(file_facts, "MAX_FILE_BYTES", 999)
    data = DataConfig(uri=str(tmp_path / "corpus"))
    expected = whole(data)
    assert len(expected.clips) == 6 and len(expected.rejects) == 1
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", size)
    monkeypatch.setattr(listing, "LOCAL_PAGE", 2)
    in_shards = sharded(data)
    assert in_shards.clips.equals(expected.clips) and in_shards.rejects.equals(expected.rejects)
    assert in_shards.clips["uri"].to_pylist() == sorted(in_shards.clips["uri"].to_pylist())
    assert in_shards.passed_over == expected.passed_over


def test_local_files_that_cannot_be_read_are_rejects(tmp_path, monkeypatch):
    (tmp_path / "good.wav").write_bytes(b"x")
    (tmp_path / "lost.wav").symlink_to(tmp_path / "nothing.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / os.fsdecode(b"no\xfftext.wav")).write_bytes(b"x")
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 2)
    in_shards = sharded(DataConfig(uri=str(tmp_path), layout="files"))
    assert in_shards.clips["clip_id"].to_pylist() == ["good.wav"]
    kinds = {row["clip_id"]: row["kind"] for row in in_shards.rejects.to_pylist()}
    assert kinds.keys() == {"lost.wav", "pipe.wav", "no\\udcfftext.wav"}
    assert kinds["lost.wav"] == "missing" and kinds["no\\udcfftext.wav"] == "name is no text"


def test_names_of_ravdess_are_read_as_such(bucket, monkeypatch):
    for actor in range(1, 6):
        bucket.put("speech", f"r/03-01-05-01-01-01-{actor:02d}.wav", b"x")
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 2)
    data = DataConfig(uri="gs://speech/r")
    assert sharded(data).clips.equals(whole(data).clips)
    assert set(sharded(data).clips["label"].to_pylist()) == {"angry"}
    assert set(sharded(replace(data, layout="files")).clips["label"].to_pylist()) == {""}


def test_rows_of_a_csv_are_sorted_by_file_where_there_are_several_shards(tmp_path, bucket, monkeypatch):
    for name in "ab":
        bucket.put("speech", f"{name}.wav", name.encode())
    rows = ["b,3,4", "a,1,2", "b,0,1", "a,0,1", "missing,0,1"]
    (tmp_path / "clips.csv").write_text(
        "uri,start_s,end_s,room\n"
        + "".join(f"gs://speech/{row.replace(',', '.wav,', 1)},north\n" for row in rows)
    )
    data = DataConfig(uri=str(tmp_path / "clips.csv"), max_reject_fraction=0.5)
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 3)
    shards = sharded(data, extra_columns=("room",))
    places = list(zip(shards.clips["uri"].to_pylist(), shards.clips["start_s"].to_pylist(), strict=True))
    assert places == sorted(places) and len(places) == 4
    assert shards.clips["room"].to_pylist() == ["north"] * 4 and shards.rejects["kind"].to_pylist() == [
        "missing"
    ]


SPEAKERS = ("Anna", "anna", "Bob")
ROWS = [f"gs://{'abc'[n % 3]}speech/{n % 7}/{n}.wav,c{n},{SPEAKERS[n % 3]}" for n in range(29)]
FAULTS = ["gs://aspeech/gone.wav,gone,Bob", "gs://bspeech/1/1.wav,c1-nan,nan", "too,many,cells,here"]


@pytest.fixture
def labels(tmp_path, bucket) -> DataConfig:
    """A CSV in no order, of files in three buckets, with rows that cannot be used."""
    for name in ("aspeech", "bspeech", "cspeech"):
        bucket.create_bucket(name)
    for number, row in enumerate(ROWS):
        uri = row.partition(",")[0].removeprefix("gs://")
        bucket.put(uri.partition("/")[0], uri.partition("/")[2], bytes(number))
    rows = [*ROWS[::-1], *FAULTS]
    (tmp_path / "clips.csv").write_text("uri,clip_id,speaker\n" + "\n".join(rows))
    return DataConfig(uri=str(tmp_path / "clips.csv"), id_column="clip_id", max_reject_fraction=0.5)


@pytest.mark.parametrize("size", [1, 4, 10, 31])
@pytest.mark.parametrize("least_listed", [1, 1000])
def test_a_table_gives_the_clips_that_are_read_whole(labels, bucket, monkeypatch, caplog, size, least_listed):
    monkeypatch.setattr(file_facts, "MIN_LISTED", least_listed)
    expected = whole(labels)
    assert (len(expected.clips), len(expected.rejects)) == (29, 3)
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", size)
    monkeypatch.setattr(file_facts, "_LISTED_AT_ONCE", 3)
    bucket.requests.clear()
    caplog.clear()
    in_shards = sharded(labels)
    assert in_shards.clips.equals(expected.clips.sort_by([("uri", "ascending"), ("start_s", "ascending")]))
    assert in_shards.rejects.sort_by("clip_id").equals(expected.rejects.sort_by("clip_id"))
    assert "1 speaker is written in several ways" in caplog.text and "'Anna' = 'anna'" in caplog.text
    if least_listed == 1:  # a page of each bucket, and the file that is not there
        assert len(bucket.requests) < 10


def test_names_that_are_in_several_shards_are_refused(labels, monkeypatch):
    with open(labels.uri, "a") as file:
        file.write("\ngs://aspeech/0/0.wav,c0,Bob\n")
    with pytest.raises(UserError) as of_whole:
        whole(labels)
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 4)
    with pytest.raises(UserError, match=r"1 clip ids are not unique: 'c0'") as of_shards:
        sharded(labels)
    assert str(of_shards.value) == str(of_whole.value)


def test_settings_that_need_all_names_read_a_table_whole(labels, monkeypatch):
    labels = replace(labels, merge_names=True)
    expected = whole(labels)
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 4)
    in_shards = sharded(labels)
    assert set(in_shards.clips["speaker"].to_pylist()) == {"Anna", "Bob"}
    assert in_shards.clips.equals(expected.clips.sort_by([("uri", "ascending"), ("start_s", "ascending")]))


def test_a_folder_without_audio_is_refused(bucket):
    bucket.put("speech", "texts/a.txt", b"")
    with pytest.raises(UserError, match=r"holds no audio file .* found 1 .txt"):
        list(clip_shards.read_shards(DataConfig(uri="gs://speech/texts", layout="files")))


def test_files_of_a_csv_are_looked_up_by_a_listing(bucket, tmp_path, monkeypatch):
    for number in range(30):
        bucket.put("speech", f"corpus/{number % 3}/{number}.wav", bytes(number))
    lines = [f"gs://speech/corpus/{number % 3}/{number}.wav" for number in range(31)]
    (tmp_path / "clips.csv").write_text("uri\n" + "\n".join(lines))
    data = DataConfig(uri=str(tmp_path / "clips.csv"), max_reject_fraction=0.5)
    one_by_one = whole(data)
    assert len(one_by_one.clips) == 30 and one_by_one.rejects["kind"].to_pylist() == ["missing"]
    monkeypatch.setattr(file_facts, "MIN_LISTED", 10)
    bucket.requests.clear()
    listed = whole(data)
    assert listed.clips.equals(one_by_one.clips) and listed.rejects.equals(one_by_one.rejects)
    assert len(bucket.requests) <= 4
    bucket.deny("speech", "storage.objects.list")
    assert whole(data).clips.equals(one_by_one.clips)


def test_fingerprints_of_clips_are_those_of_a_listing(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(file_facts, "MIN_LISTED", 10)
    monkeypatch.setattr(file_facts, "_LISTED_AT_ONCE", 7)
    for number in range(30):
        bucket.put("speech", f"corpus/{number % 3}/{number}.wav", bytes(number))
    places = [f"gs://speech/corpus/{number % 3}/{number}.wav" for number in [*range(31), 4, 4]]
    lines = [f"{place},{number},{number + 1}" for number, place in enumerate(places)]
    (tmp_path / "clips.csv").write_text("uri,start_s,end_s\n" + "\n".join([*lines, "here.wav,0,1"]))
    data = DataConfig(uri=str(tmp_path / "clips.csv"))
    clips = manifest.read(data, task="none").clips
    bucket.requests.clear()
    fingerprints = file_facts.listed_fingerprints(clips, data).to_pylist()
    assert len(bucket.requests) <= 4
    expected = storage.stat_many(places, num_at_once=4)
    assert fingerprints[:30] == [info.fingerprint for info in expected[:30]]
    assert fingerprints[30:] == [None, expected[4].fingerprint, expected[4].fingerprint, None]
    assert file_facts.listed_fingerprints(clips.slice(33), data).to_pylist() == [None]
