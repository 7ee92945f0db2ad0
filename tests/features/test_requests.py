"""The audio index: found by today's key and by that of earlier versions, never trusted when damaged."""

import hashlib
from dataclasses import astuple, replace

import pyarrow as pa
import pytest

from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.features.requests import AudioIndex, ClipFeatures

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


def digest_of(found):
    [request] = found.requests(CLIPS)
    return request.audio_digest


def test_what_was_learnt_is_known_under_the_same_settings_alone(tmp_path, learnt):
    assert digest_of(index(tmp_path)) == "d"
    assert digest_of(index(tmp_path, replace(AUDIO, crop_s=2.0))) == ""


def test_an_index_of_earlier_versions_is_found(tmp_path, learnt):
    key = hashlib.sha256(repr((astuple(AUDIO), DATA.uri)).encode()).hexdigest()[:16]
    learnt.rename(learnt.with_name(f"{key}.parquet"))
    assert digest_of(index(tmp_path)) == "d"


def test_no_flipped_bit_makes_another_digest(tmp_path, learnt, caplog):
    body = learnt.read_bytes()
    for at in range(0, len(body), 7):
        learnt.write_bytes(body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1 :])
        assert digest_of(index(tmp_path)) in ("d", "")
    assert "the audio is read again" in caplog.text
