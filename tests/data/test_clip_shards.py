"""Corpora in shards: the same clips, rejects and numbers as read whole."""

import logging
from dataclasses import replace

import pyarrow as pa
import pytest

from w2v2.config.data import DataConfig
from w2v2.data import clip_shards, file_facts, manifest
from w2v2.errors import UserError

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


def sharded(data: DataConfig, carried=()) -> manifest.Manifest:
    found = list(clip_shards.read_shards(data, carried=carried))
    passed_over: dict[str, int] = {}
    for shard in found:
        assert len(shard.clips) <= clip_shards.SHARD_CLIPS
        for kind, number in shard.passed_over.items():
            passed_over[kind] = passed_over.get(kind, 0) + number
    return manifest.Manifest(
        clips=pa.concat_tables([shard.clips for shard in found]),
        rejects=pa.concat_tables([shard.rejects for shard in found]),
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
        found = sharded(corpus)
    assert found.clips.equals(expected.clips)
    assert found.rejects.equals(expected.rejects)
    assert found.passed_over == expected.passed_over
    assert (
        "passed over 1 audio files of formats that are not read, such as gs://speech/corpus/c/old.wma"
        in caplog.text
    )


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
    found = sharded(data, carried=("room",))
    places = list(zip(found.clips["uri"].to_pylist(), found.clips["start_s"].to_pylist(), strict=True))
    assert places == sorted(places) and len(places) == 4
    assert found.clips["room"].to_pylist() == ["north"] * 4 and found.rejects["kind"].to_pylist() == [
        "missing"
    ]


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
