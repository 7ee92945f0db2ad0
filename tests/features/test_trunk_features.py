"""The trunk cache: computed once, equal to computing again, whole or computed anew."""

import numpy as np
import pytest
import soundfile
import torch

from w2v2.config.data import AudioConfig, CacheConfig
from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.features import cache as feature_cache
from w2v2.features.cache import FeatureCache, MappedFeatures
from w2v2.features.preparation import prepare
from w2v2.features.requests import ClipFeatures, Request
from w2v2.features.trunk_features import TrunkFeatures, trunk_key
from w2v2.models.encoder import Encoder
from w2v2.models.pretrained import load_encoder, weights_digest
from w2v2.storage import files as storage


@pytest.fixture
def files(tmp_path) -> list[str]:
    rng = np.random.default_rng(3)
    uris = []
    for index in range(7):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, 0.3 * rng.standard_normal(16_000 * (index + 2) // 5), 16_000)
        uris.append(str(path))
    return uris


def requests(uris: list[str], **indexed) -> list[Request]:
    return [
        Request(clip_id=f"clip{i}", uri=uri, start_s=0.0, end_s=np.inf, **indexed)
        for i, uri in enumerate(uris)
    ]


def trunk(tmp_path, *, uri: str = "", dtype: str = "float32", **settings) -> tuple[Encoder, FeatureCache]:
    encoder = load_encoder(EncoderConfig(**settings), seed=1)
    cache = CacheConfig(uri=uri or str(tmp_path / "cache"), dtype=dtype)
    key = trunk_key(encoder, weights_digest(encoder.model), cache=cache, precision="float32")
    return encoder, FeatureCache(cache, key)


def run(uris, *trunks, **indexed):
    return prepared_clips(requests(uris, **indexed), *trunks)


def prepared_clips(clips: list[Request], *trunks: tuple[Encoder, FeatureCache]) -> list[ClipFeatures]:
    kinds = [TrunkFeatures(encoder=encoder, cache=cache) for encoder, cache in trunks]
    return prepare(clips, kinds=kinds, audio=AudioConfig(), num_readers=4)


@pytest.mark.parametrize(
    "settings", [dict(train="no_conv"), dict(train="last", num_last_layers=1), dict(train="head")], ids=str
)
def test_cached_features_equal_the_trunk_on_each_clip_alone(tmp_path, files, settings):
    encoder, cache = trunk(tmp_path, **settings)
    prepared = run(files, (encoder, cache))
    stored = MappedFeatures(cache, [p.audio_digest for p in prepared])
    for uri, clip, features_of_clip in zip(files, prepared, stored, strict=True):
        waveform, _ = soundfile.read(uri, dtype="float32")
        alone = (waveform - waveform.mean()) / waveform.std()
        expected, _ = encoder.trunk(torch.from_numpy(alone)[None], torch.tensor([len(alone)]))
        assert clip.num_samples == len(waveform) and clip.reject is None
        assert np.allclose(features_of_clip, expected[0].numpy(), atol=2e-5)


def test_second_run_makes_no_forwards_and_reads_no_audio(tmp_path, files, monkeypatch):
    pair = trunk(tmp_path, train="last")
    first = run(files, pair)
    assert [p.num_forwards for p in first] == [1] * len(files)
    indexed = [
        Request(clip_id=p.clip_id, uri=uri, start_s=0.0, end_s=np.inf, fingerprint=p.fingerprint, audio_digest=p.audio_digest, num_samples=p.num_samples)
        for p, uri in zip(first, files, strict=True)
    ]  # fmt: skip
    monkeypatch.setattr(
        storage, "read_many", lambda uris, **_: iter([pytest.fail("audio was read") for _ in uris])
    )
    again = prepared_clips(indexed, pair)
    assert [p.num_forwards for p in again] == [0] * len(files)
    assert [p.audio_digest for p in again] == [p.audio_digest for p in first]


def test_changed_audio_is_computed_again_under_the_same_name(tmp_path, files):
    pair = trunk(tmp_path, train="last")
    first = run(files, pair)
    soundfile.write(files[2], 0.2 * np.sin(np.arange(9_000) / 5), 16_000)
    indexed = [
        Request(clip_id=p.clip_id, uri=uri, start_s=0.0, end_s=np.inf, fingerprint=p.fingerprint, audio_digest=p.audio_digest, num_samples=p.num_samples)
        for p, uri in zip(first, files, strict=True)
    ]  # fmt: skip
    again = prepared_clips(indexed, pair)
    assert [p.num_forwards for p in again] == [0, 0, 1, 0, 0, 0, 0]
    assert again[2].audio_digest != first[2].audio_digest and again[2].num_samples == 9_000


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-7], lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:], lambda b: b""]
)
def test_damaged_entry_is_computed_again(tmp_path, files, damage, caplog):
    encoder, cache = trunk(tmp_path, train="last")
    first = run(files, (encoder, cache))
    path = cache.path(first[4].audio_digest)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again = run(files, (encoder, cache))
    assert [p.num_forwards for p in again] == [0, 0, 0, 0, 1, 0, 0]
    stored = np.load(path)
    assert np.allclose(stored, np.load(__import__("io").BytesIO(whole)), atol=1e-6)
    assert "is damaged and is computed again" in caplog.text


def test_same_audio_under_two_names_is_computed_once(tmp_path, files):
    (tmp_path / "copy.flac").write_bytes(b"")
    waveform, rate = soundfile.read(files[0], dtype="int16")
    soundfile.write(tmp_path / "copy.flac", waveform, rate)
    soundfile.write(tmp_path / "copy.wav", waveform, rate)
    prepared = run([str(tmp_path / "copy.wav"), str(tmp_path / "copy.flac")], trunk(tmp_path, train="last"))
    assert prepared[0].audio_digest == prepared[1].audio_digest
    assert sum(p.num_forwards for p in prepared) == 1


def test_key_changes_with_weights_cut_and_arithmetic_only():
    cache = CacheConfig()

    def key(cache=cache, digest="d", precision="float32", **settings):
        return trunk_key(
            load_encoder(EncoderConfig(**settings), seed=1), digest, cache=cache, precision=precision
        )

    base = key(train="last", num_last_layers=1)
    others = [
        key(train="last", num_last_layers=1, digest="e"),
        key(train="last", num_last_layers=2),
        key(train="last", num_last_layers=1, layer="mix"),
        key(train="no_conv"),
        key(train="head"),
        key(train="head", pooling="max"),
        key(train="head", layer=1),
        key(train="last", num_last_layers=1, precision="bf16"),
        key(CacheConfig(dtype="float16"), train="last", num_last_layers=1),
    ]
    assert len({base, *others}) == 1 + len(others)
    assert base == key(train="last", num_last_layers=1, pooling="max")  # pooling comes after this cut
    assert key(train="all") == key(train="all", digest="e")  # waveforms do not depend on the weights


def test_float16_entries_take_half_the_space(tmp_path, files):
    sizes = []
    for dtype in ("float32", "float16"):
        encoder, cache = trunk(tmp_path, dtype=dtype, train="no_conv")
        digest = run(files[-1:], (encoder, cache))[0].audio_digest
        sizes.append(cache.path(digest).stat().st_size)
    assert sizes[1] < 0.51 * sizes[0]


def test_unusable_clips_are_reported_with_reasons_and_do_not_stop_the_others(tmp_path, files):
    text, short, lost = tmp_path / "text.wav", tmp_path / "short.wav", tmp_path / "lost.wav"
    text.write_text("not audio at all, only text that was named wav")
    soundfile.write(short, np.ones(100) * 0.1, 16_000)
    prepared = run([str(text), files[0], str(short), str(lost)], trunk(tmp_path, train="last"))
    assert [bool(p.reject) for p in prepared] == [True, False, True, True]
    assert prepared[0].reject.kind == "not audio"
    assert prepared[2].reject.kind == "too short"
    assert prepared[3].reject.kind == "missing" and "lost.wav" in prepared[3].reject.detail


def test_remote_cache_is_shared_through_the_bucket(tmp_path, files, bucket, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "laptop"))
    first = run(files, trunk(tmp_path, uri="gs://speech/cache", train="last"))
    monkeypatch.setenv("HOME", str(tmp_path / "node"))  # another machine: nothing on its disk
    encoder, cache = trunk(tmp_path, uri="gs://speech/cache", train="last")
    digests = [p.audio_digest for p in first]
    assert not any(cache.path(digest).exists() for digest in digests)
    mapped = MappedFeatures(cache, digests)
    assert len(mapped[0]) > 0  # fetched when asked for, and it alone
    assert [cache.path(digest).exists() for digest in digests] == [d == digests[0] for d in digests]
    mapped.expect(range(1, len(digests)))
    assert all(len(mapped[index]) > 0 for index in range(len(digests)))
    assert sum(p.num_forwards for p in run(files, (encoder, cache))) == 0


def test_a_deleted_remote_cache_is_filled_again_whatever_this_disk_has(tmp_path, files, bucket, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "laptop"))
    settings = dict(uri="gs://speech/cache", train="last")
    forwards = [sum(p.num_forwards for p in run(files, trunk(tmp_path, **settings))) for _ in range(2)]
    entries = [name for name in bucket.names("speech") if name.endswith(".npy")]
    assert forwards == [len(entries), 0]
    for name in bucket.names("speech"):
        storage.delete(f"gs://speech/{name}")
    again = run(files, trunk(tmp_path, **settings))
    assert sum(p.num_forwards for p in again) == len(entries)
    assert [name for name in bucket.names("speech") if name.endswith(".npy")] == entries


def test_local_cache_that_a_node_does_not_see_is_an_error(tmp_path):
    _, cache = trunk(tmp_path, train="last")
    with pytest.raises(UserError, match=r"lacks 1 entries on this machine.*must be a gs:// prefix"):
        feature_cache.localize(cache, ["0" * 32], num_at_once=2)
