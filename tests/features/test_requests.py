"""The audio index: found by today's key and by that of earlier versions, never trusted when damaged."""

import hashlib
import math
from dataclasses import astuple, replace

import pyarrow as pa
import pytest

from w2v2.audio.quality import Quality
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.data import clip_columns
from w2v2.errors import Reject
from w2v2.features import requests
from w2v2.features.requests import AudioIndex, ClipFeatures, features_in_columns, features_of

DATA, AUDIO = DataConfig(uri="/data/clips.csv"), AudioConfig(crop_s=3.0)
CLIPS = pa.table({"clip_id": ["a"], "uri": ["/data/a.wav"], "start_s": [0.0], "end_s": [float("inf")]})


def index(tmp_path, audio=AUDIO):
    return AudioIndex(DATA, audio, CacheConfig(uri=str(tmp_path)))


@pytest.fixture
def learnt(tmp_path):
    """An index with one clip; its file."""
    features = ClipFeatures(clip_id="a", fingerprint="f", audio_digest="d", num_samples=7)
    index(tmp_path).save(index(tmp_path).requests(CLIPS), [features])
    [path] = (tmp_path / "index").iterdir()
    return path


def digest_of(audio_index):
    [request] = audio_index.requests(CLIPS)
    return request.audio_digest


def test_entries_are_read_under_the_same_settings_alone(tmp_path, learnt):
    assert digest_of(index(tmp_path)) == "d"
    assert digest_of(index(tmp_path, replace(AUDIO, crop_s=2.0))) == ""


def test_an_index_of_earlier_versions_is_read(tmp_path, learnt):
    key = hashlib.sha256(repr((astuple(AUDIO), DATA.uri)).encode()).hexdigest()[:16]
    learnt.rename(learnt.with_name(f"{key}.parquet"))
    assert digest_of(index(tmp_path)) == "d"


def test_no_flipped_bit_makes_another_digest(tmp_path, learnt, caplog):
    body = learnt.read_bytes()
    for at in range(0, len(body), 7):
        learnt.write_bytes(body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1 :])
        assert digest_of(index(tmp_path)) in ("d", "")
    assert "the audio is read again" in caplog.text


QUALITY = Quality(
    level_db=-20.0, snr_db=30.0, bandwidth_hz=8000.0, silence_fraction=0.1, clipping_fraction=0.0
)


def many(num: int) -> tuple[pa.Table, list[ClipFeatures]]:
    """Segments, two of each file, and what is learnt of them: every fifth one is rejected."""
    clips = pa.table(
        {
            "clip_id": [f"c{n}" for n in range(num)],
            "uri": [f"/data/{n // 2} é.wav" for n in range(num)],
            "start_s": [n % 2 / 3 for n in range(num)],
            "end_s": [math.inf if n % 2 else 1 / 3 for n in range(num)],
        }
    )
    usable = [
        ClipFeatures(
            clip_id=f"c{n}", fingerprint=f"f{n}", audio_digest=f"d{n}", num_samples=n + 1, num_forwards=n % 2,
            quality=QUALITY if n % 3 else None, tolerated="no end mark" if n % 4 else "",
        )
        for n in range(num)
    ]  # fmt: skip
    reject = Reject(kind="too short", detail="0.1 s")
    return clips, [
        clip if n % 5 else ClipFeatures(clip_id=clip.clip_id, reject=reject) for n, clip in enumerate(usable)
    ]


def test_clips_in_columns_are_the_clips(monkeypatch):
    monkeypatch.setattr(clip_columns, "CLIPS_AS_OBJECTS", 7)
    _, features = many(50)
    columns = features_in_columns(iter(features))
    assert list(columns) == features == [columns[n] for n in range(50)] and len(columns) == 50
    assert columns[-1] == features[-1] and columns[3:40:4] == features[3:40:4]
    with pytest.raises(IndexError):
        columns[50]
    assert list(features_of(columns.table)) == features


def test_an_index_of_many_clips_is_several_files(tmp_path, monkeypatch):
    clips, features = many(50)
    monkeypatch.setattr(requests, "SHARD_CLIPS", 15)
    index(tmp_path).save(index(tmp_path).requests(clips), features)
    assert len(list(tmp_path.glob("index/*/*.parquet"))) == 3 and not list(tmp_path.glob("index/*.parquet"))
    restored = index(tmp_path).requests(clips)
    learnt = [
        (r.clip_id, r.fingerprint, r.audio_digest, r.num_samples, r.tolerated, r.quality) for r in restored
    ]
    assert learnt == [
        (f.clip_id, f.fingerprint, f.audio_digest, f.num_samples, f.tolerated, f.quality) for f in features
    ]
    assert [(r.uri, r.start_s, r.end_s) for r in restored] == [
        (c["uri"], c["start_s"], c["end_s"]) for c in clips.to_pylist()
    ]
    [lost] = tmp_path.glob("index/*/00001.parquet")
    lost.write_bytes(lost.read_bytes()[:-20])
    assert sum(bool(request.audio_digest) for request in index(tmp_path).requests(clips)) == 40 - 15
    monkeypatch.setattr(requests, "SHARD_CLIPS", 100)
    index(tmp_path).save(index(tmp_path).requests(clips), features)
    assert len(list(tmp_path.glob("index/*.parquet"))) == 1 and not list(tmp_path.glob("index/*/*.parquet"))
    assert [request.audio_digest for request in index(tmp_path).requests(clips)] == [
        f.audio_digest for f in features
    ]
