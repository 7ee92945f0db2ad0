"""A bucket that does not answer stops a job; it is no property of a clip, and nothing is rejected for it."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tests.cloud.gcs import FakeGcs, without_pauses
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.config.model import EncoderConfig
from w2v2.data.corpora.recordings import speakers_in
from w2v2.data.file_facts import add_file_facts
from w2v2.data.manifest import CLIPS, Manifest, read
from w2v2.data.rejects import REJECTS
from w2v2.features.descriptor_features import prepare_descriptors
from w2v2.features.encoder_info import RecordedEncoders
from w2v2.features.requests import AudioIndex, Request
from w2v2.inference.reading import read_clips
from w2v2.models.fold_encoders import num_folds_of
from w2v2.models.learning_rates import is_tiny
from w2v2.storage.files import UnreachableError

URI = "gs://speech/a.wav"
DATA, AUDIO, CACHE = (
    DataConfig(uri="gs://speech/clips.csv"),
    AudioConfig(),
    CacheConfig(uri="gs://speech/cache"),
)
ROW = {
    "clip_id": "a",
    "uri": URI,
    "start_s": 0.0,
    "end_s": float("inf"),
    "speaker": "s",
    "split": "",
    "label": "x",
}
CLIP = pa.Table.from_pylist([ROW], schema=CLIPS)


def reading() -> list[pa.Table]:
    clips = CLIP.append_column("checksum_in_table", pa.array([""]))
    return list(read_clips(clips, audio=AUDIO, num_readers=2, min_samples=400))


def describing() -> Any:
    request = Request(clip_id="a", uri=URI, start_s=0.0, end_s=float("inf"))
    cache = CacheConfig(uri="/nowhere/cache")
    return prepare_descriptors([request], kinds=["energy"], audio=AUDIO, cache=cache, num_readers=2)


WORK: dict[str, Callable[[], Any]] = {
    "reading audio": reading,
    "preparing features": describing,
    "the audio index": lambda: AudioIndex(DATA, AUDIO, CACHE),
    "looking at files": lambda: add_file_facts(Manifest(clips=CLIP, rejects=REJECTS.empty_table()), DATA),
    "metadata of recordings": lambda: speakers_in(["gs://speech/metadata.json"], DATA),
    "a table of labels": lambda: read(DATA),
    "what an encoder began with": lambda: is_tiny("gs://speech/model"),
    "a folder": lambda: read(DataConfig(uri="gs://speech/folder")),
}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("kind", ["status", "reset"])
def test_it_stops_with_a_sentence_and_rejects_nothing(
    name: str, kind: Any, bucket: FakeGcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pauses(monkeypatch)
    bucket.faults.add(kind=kind, count=-1)
    with pytest.raises(
        UnreachableError, match=r"could not be reached or did not answer .*run the same command again"
    ):
        WORK[name]()


def test_missing_files_are_rejects_of_their_kind(bucket: FakeGcs) -> None:
    [row] = reading()
    assert (row["status"][0].as_py(), row["reject_kind"][0].as_py()) == ("unreadable", "missing")
    [described] = describing()
    assert described.prepared.reject is not None and described.prepared.reject.kind == "missing"
    corpus = add_file_facts(Manifest(clips=CLIP, rejects=REJECTS.empty_table()), DATA)
    assert corpus.rejects["kind"].to_pylist() == ["missing"] and not len(corpus.clips)


@pytest.mark.parametrize(
    "look",
    [
        lambda: num_folds_of("gs://speech/run"),
        lambda: RecordedEncoders(CACHE, precision="float32", seed=0).find(EncoderConfig()),
    ],
    ids=["folds of an encoder", "facts about an encoder"],
)
def test_a_file_that_is_there_and_does_not_come_is_not_damaged(
    look: Callable[[], Any], bucket: FakeGcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pauses(monkeypatch)
    monkeypatch.setattr("w2v2.storage.files.exists", lambda uri: True)  # it answers for the last time
    bucket.faults.add(kind="status", count=-1)
    with pytest.raises(
        UnreachableError, match=r"could not be reached or did not answer .*run the same command again"
    ):
        look()
