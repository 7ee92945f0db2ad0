"""Pooled vectors in a few files: those of the cache's entries, packed once, and again where they are damaged."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from w2v2.config.data import CacheConfig
from w2v2.errors import ResumableError
from w2v2.features import packed_vectors
from w2v2.features.batches import ClipSet
from w2v2.features.cache import FeatureCache
from w2v2.features.packed_vectors import PackedVectors, in_memory, open_features

NUM_CLIPS, SHAPE = 25, (2, 3)
DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(NUM_CLIPS)]


@pytest.fixture(params=["float32", "float16"])
def vectors(request) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((NUM_CLIPS, *SHAPE)).astype(request.param)


@pytest.fixture
def cache(tmp_path, vectors, monkeypatch) -> FeatureCache:
    monkeypatch.setattr(packed_vectors, "HELD_BYTES", 0)
    monkeypatch.setattr(packed_vectors, "PACK_BYTES", 7 * vectors[0].nbytes)
    monkeypatch.setattr(packed_vectors, "_CHUNK_CLIPS", 3)
    cache = FeatureCache(CacheConfig(uri=str(tmp_path), dtype=str(vectors.dtype)), "pooled-test")
    cache.write(list(zip(DIGESTS, vectors, strict=True)), num_at_once=2)
    return cache


def packs(cache: FeatureCache) -> dict[str, float]:
    return {path.name: path.stat().st_mtime_ns for path in (cache.folder / "packed").glob("*.bin")}


def opened(cache: FeatureCache, rows: list[int]) -> PackedVectors:
    features = open_features(cache, pa.chunked_array([[DIGESTS[row] for row in rows]]), num_at_once=2)
    assert isinstance(features, PackedVectors) and len(features) == len(rows)
    return features


def test_they_are_the_entries_and_packed_once(cache, vectors, monkeypatch):
    assert np.array_equal(in_memory(opened(cache, list(range(20)))), vectors[:20])
    before = packs(cache)
    assert len(before) == 3
    # Other clips in another order, some of them twice: only what is new is packed.
    rows = [24, 3, 3, 11, 0, 20]
    features = opened(cache, rows)
    assert in_memory(features).dtype == vectors.dtype
    assert np.array_equal(in_memory(features), vectors[rows])
    assert len(packs(cache)) == 4 and before.items() <= packs(cache).items()
    clips = ClipSet(features=features, lengths=np.ones(6, np.int64), targets=np.zeros(6, np.int64))
    batch, _ = clips.select(np.array([1, 5]))
    assert np.array_equal(batch.numpy(), vectors[[3, 20]].astype(np.float32))
    monkeypatch.setattr(packed_vectors, "HELD_BYTES", 10**6)
    held = open_features(cache, [DIGESTS[row] for row in rows], num_at_once=2)
    assert isinstance(held, np.ndarray) and np.array_equal(held, vectors[rows])


@pytest.mark.parametrize("suffix", [".bin", ".parquet"])
def test_a_damaged_file_is_packed_again(cache, vectors, suffix, caplog):
    opened(cache, list(range(NUM_CLIPS)))
    damaged = sorted((cache.folder / "packed").glob(f"*{suffix}"))[1]
    body = bytearray(damaged.read_bytes())
    body[len(body) // 2] ^= 0x10
    damaged.write_bytes(body)
    packed_vectors._whole_pack.cache_clear()  # as in another process
    assert np.array_equal(in_memory(opened(cache, list(range(NUM_CLIPS)))), vectors)
    assert "is damaged and is packed again" in caplog.text
    caplog.clear()
    assert np.array_equal(in_memory(opened(cache, list(range(NUM_CLIPS)))), vectors)
    assert not caplog.text


def test_what_is_not_in_the_cache_is_an_error(cache):
    Path(cache.path(DIGESTS[4])).unlink()
    with pytest.raises(ResumableError, match="lacks 1 entries on this machine"):
        opened(cache, [3, 4, 5])
    assert len(opened(cache, [3, 5])) == 2
    assert not list((cache.folder / "packed").glob(".*.part"))


def test_several_at_once_pack_a_vector_once(cache, vectors):
    with ThreadPoolExecutor(4) as pool:
        for features in pool.map(lambda _: opened(cache, list(range(NUM_CLIPS))), range(8)):
            assert np.array_equal(in_memory(features), vectors)
    assert sum(path.stat().st_size for path in (cache.folder / "packed").glob("*.bin")) == vectors.nbytes


def test_what_a_kill_leaves_is_deleted(cache, vectors):
    opened(cache, [0, 1, 2])
    kept = packs(cache)
    (cache.folder / "packed" / f"{DIGESTS[0]}.bin").write_bytes(b"without its digests")
    (cache.folder / "packed" / f".{DIGESTS[0]}.0123.part").write_bytes(b"begun")
    assert np.array_equal(in_memory(opened(cache, [0, 1, 2])), vectors[:3])
    assert len(packs(cache)) == 2, "where nothing is packed, nothing is deleted"
    assert np.array_equal(in_memory(opened(cache, [2, 3])), vectors[2:4])
    assert kept.items() <= packs(cache).items() and len(packs(cache)) == 2
    assert not list((cache.folder / "packed").glob(".*.part"))


def test_a_folder_that_cannot_be_written_costs_time_alone(cache, vectors, caplog):
    (cache.folder / "packed").write_text("a file, where the folder would be")
    features = open_features(cache, DIGESTS, num_at_once=2)
    assert np.array_equal(in_memory(features), vectors)
    assert "File exists" in caplog.text and "each vector is read from its own file" in caplog.text
    Path(cache.path(DIGESTS[4])).unlink()
    with pytest.raises(ResumableError, match="lacks 1 entries on this machine"):
        open_features(cache, DIGESTS, num_at_once=2)


def test_vectors_of_many_clips_are_packed_though_they_are_held(cache, vectors, monkeypatch):
    monkeypatch.setattr(packed_vectors, "HELD_BYTES", 10**6)
    monkeypatch.setattr(packed_vectors, "HELD_CLIPS", 10)
    digests = pa.chunked_array([DIGESTS])
    held = open_features(cache, digests, num_at_once=2)
    assert isinstance(held, np.ndarray) and np.array_equal(held, vectors)
    assert len(packs(cache)) == 4 and not len(packed_vectors.without_packed(cache, digests.chunk(0)))
    cache.path(DIGESTS[3]).unlink()  # the pack has it
    monkeypatch.setattr(packed_vectors, "HELD_CLIPS", 1000)
    assert np.array_equal(open_features(cache, digests, num_at_once=2), vectors)
