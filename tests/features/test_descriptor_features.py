"""Hand-made features are computed once per clip, whoever asks, and asked for again only when the audio is new."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.made.corpora import write_audio
from w2v2.audio.decoding import AudioError, load_waveform
from w2v2.audio.descriptors import describe
from w2v2.audio.waveforms import waveform_digest
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.features import descriptor_features, preparation
from w2v2.features.descriptor_features import prepare_descriptors
from w2v2.features.requests import AudioIndex

KINDS = ("energy", "pitch")
AUDIO = AudioConfig()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(5):
        write_audio(
            tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(4000 + 17 * i).astype(np.float32), 16_000
        )
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    return tmp_path


@pytest.fixture
def counted(monkeypatch):
    """How often features were computed, by kind."""
    calls: list[str] = []

    def counting(waveform, kinds):
        calls.extend(kinds)
        return describe(waveform, kinds)

    monkeypatch.setattr(descriptor_features, "describe", counting)
    return calls


def clips_of(folder: Path, names: list[str]) -> pa.Table:
    rows = [{"clip_id": n, "uri": str(folder / n), "start_s": 0.0, "end_s": math.inf} for n in names]
    return pa.Table.from_pylist(rows)


def prepare(folder: Path, names: list[str], kinds=KINDS):
    cache = CacheConfig(uri=str(folder / "cache"), dtype="float16")
    index = AudioIndex(DataConfig(uri=str(folder)), AUDIO, cache)
    requests = index.requests(clips_of(folder, names))
    prepared = prepare_descriptors(requests, kinds=kinds, audio=AUDIO, cache=cache, num_readers=4)
    index.save(requests, [one.prepared for one in prepared])
    return prepared


def test_features_are_those_of_the_clip_in_order_and_in_full_precision(folder):
    names = ["3.wav", "0.wav", "4.wav"]
    for name, described in zip(names, prepare(folder, names), strict=True):
        waveform = load_waveform((folder / name).read_bytes(), AUDIO)
        assert np.array_equal(described.values, describe(waveform, KINDS))
        assert described.prepared.clip_id == name and described.prepared.num_samples == len(waveform)
        assert described.prepared.audio_digest == waveform_digest(waveform)


def test_a_clip_is_computed_once_and_read_once(folder, counted, monkeypatch):
    names = [f"{i}.wav" for i in range(5)]
    first = prepare(folder, names)
    assert sorted(counted) == ["energy"] * 5 + ["pitch"] * 5
    monkeypatch.setattr(preparation, "read_clip", None)  # would raise if it were called
    again = prepare(folder, names)
    assert len(counted) == 10
    for before, now in zip(first, again, strict=True):
        assert np.array_equal(before.values, now.values) and before.prepared == now.prepared


def test_another_kind_computes_that_kind_alone(folder, counted):
    prepare(folder, ["0.wav", "1.wav"])
    counted.clear()
    prepared = prepare(folder, ["0.wav", "1.wav"], kinds=("spectral", "energy"))
    assert counted == ["spectral", "spectral"]
    waveform = load_waveform((folder / "0.wav").read_bytes(), AUDIO)
    assert np.array_equal(prepared[0].values, describe(waveform, ("spectral", "energy")))


def test_a_changed_file_is_read_again_and_equal_audio_is_not_computed_again(folder, counted):
    prepare(folder, ["0.wav", "1.wav"])
    counted.clear()
    (folder / "1.wav").write_bytes((folder / "2.wav").read_bytes())
    (folder / "3.wav").write_bytes((folder / "0.wav").read_bytes())
    prepared = prepare(folder, ["0.wav", "1.wav", "3.wav"])
    assert counted == ["energy", "pitch"]
    assert np.array_equal(prepared[0].values, prepared[2].values)
    assert not np.array_equal(prepared[0].values, prepared[1].values)


def test_a_damaged_entry_is_computed_again(folder, counted):
    first = prepare(folder, ["0.wav"])
    for path in (folder / "cache").rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:-3])
    assert np.array_equal(prepare(folder, ["0.wav"])[0].values, first[0].values)
    assert counted == ["energy", "pitch"] * 2


def test_clips_that_cannot_be_used_have_a_reason(folder, monkeypatch):
    def refusing(waveform, kinds):
        if len(waveform) == 4017:
            raise AudioError("not finite", "f0 and 3 other hand-made features")
        return describe(waveform, kinds)

    monkeypatch.setattr(descriptor_features, "describe", refusing)
    good, bad, missing, odd = prepare(folder, ["0.wav", "bad.wav", "missing.wav", "1.wav"])
    assert good.values is not None and not good.prepared.reject
    assert bad.prepared.reject.kind in ("not audio", "truncated") and bad.values is None
    assert (
        "missing.wav" in missing.prepared.reject.detail
        and missing.prepared.reject.kind == "missing"
        and not missing.prepared.audio_digest
    )
    assert (
        odd.prepared.reject.reason == "not finite: f0 and 3 other hand-made features" and odd.values is None
    )


def test_a_damaged_index_is_passed_over(folder, counted):
    prepare(folder, ["0.wav"])
    for path in (folder / "cache" / "index").iterdir():
        path.write_bytes(b"no parquet")
    assert prepare(folder, ["0.wav"])[0].values is not None
    assert counted == ["energy", "pitch"]
