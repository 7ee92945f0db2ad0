"""Pooled vectors of many clips in a few files on the local disk, from which a batch reads its rows.

<cache>/features/<key>/packed/<name>.bin    rows of one shape, one after another
<cache>/features/<key>/packed/<name>.parquet    the digest of each row, and what the .bin must be

They are copies, made again where they are gone, so the folder may be deleted while no job runs.
"""

import fcntl
import functools
import hashlib
import json
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from w2v2.data.groups import places_of
from w2v2.features.batches import Features
from w2v2.features.cache import FeatureCache, MappedFeatures, localize
from w2v2.storage import files as storage
from w2v2.storage.mapped_tables import whole
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet

logger = logging.getLogger(__name__)

HELD_BYTES = 2**26
"""The most bytes of pooled vectors in memory; with more, a batch reads its vectors from a few files."""
HELD_CLIPS = 20_000
"""The most clips whose vectors are read from an entry each: opening more entries takes longer than training."""
PACK_BYTES = 2**28
"""About so large is one file."""
_CHUNK_CLIPS = 1_000
_CHECKED_BYTES = 2**22
_FACTS = b"w2v2.packed"


def open_features(
    cache: FeatureCache, digests: Sequence[str] | pa.ChunkedArray, *, num_at_once: int
) -> Features:
    """The entries of some clips in order, memory-mapped; pooled vectors are in memory up to HELD_BYTES, and packed above."""
    digests = whole(digests) if isinstance(digests, pa.ChunkedArray) else pa.array(digests, pa.string())
    features = MappedFeatures(cache, digests, num_at_once=num_at_once)
    if not cache.pooled or not len(digests):
        return features
    # Opening a file for each clip of each batch would cost more than training does.
    if len(digests) > HELD_CLIPS or not len(without_packed(cache, digests)) or _is_large(features):
        try:
            packed = PackedVectors(cache, digests, num_at_once=num_at_once)
        except (OSError, storage.RefusedError) as error:  # a full disk, or a folder that may not be written
            logger.warning("feature cache: %s: each vector is read from its own file, which is slow", error)
            localize(cache, digests.to_pylist(), num_at_once=num_at_once)
            return features
        return packed if _is_large(packed) else in_memory(packed)
    localize(cache, digests.to_pylist(), num_at_once=num_at_once)
    return in_memory(features)


def _is_large(features: Features) -> bool:
    return len(features) * features[0].nbytes > HELD_BYTES


def without_packed(cache: FeatureCache, digests: pa.Array) -> pa.Array:
    """The digests that are in no undamaged pack on this machine: only their entries in the cache have to be looked at."""
    return _missing(digests, _packs(cache.folder / "packed")) if cache.pooled else digests


def in_memory(features: Features, dtype: type | None = None) -> Float[np.ndarray, "clips ..."]:
    """All features, which have one shape, in one array, of type dtype if given.

    A large array of packed vectors is memory-mapped from a file in the temporary folder, whose space is freed with the array.
    """
    if isinstance(features, np.ndarray):
        return features if dtype is None else features.astype(dtype, copy=False)
    wanted = np.dtype(features[0].dtype if dtype is None else dtype)
    if isinstance(features, PackedVectors) and _is_large(features):
        try:
            return _mapped(features, wanted)
        except OSError as error:  # a full disk
            logger.warning("feature cache: vectors are held in memory: %s", error)
    array = np.empty((len(features), *features[0].shape), wanted)
    for index in range(len(features)):
        array[index] = features[index]
    return array


def _mapped(features: "PackedVectors", dtype: np.dtype) -> Float[np.ndarray, "clips ..."]:
    with tempfile.NamedTemporaryFile(prefix="w2v2-vectors-") as file:
        for vectors in features.portions():
            file.write(vectors.astype(dtype, copy=False).tobytes())
        file.flush()
        # Copy-on-write, although nothing writes: torch takes no read-only array.
        return np.memmap(file.name, dtype, "c").reshape(len(features), *features[0].shape)


@dataclass(frozen=True, kw_only=True)
class _Pack:
    """One file of rows."""

    path: Path
    digests: pa.Array
    dtype: str
    shape: tuple[int, ...]
    """Of one row."""
    crc32c: int

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def is_whole(self) -> bool:
        """Whether the file has the bytes that were written."""
        crc = 0
        with self.path.open("rb") as file:
            while portion := file.read(_CHECKED_BYTES):
                crc = google_crc32c.extend(crc, portion)
        return crc == self.crc32c


class PackedVectors:
    """The pooled vectors of some clips in order. Only two numbers for each clip are in memory until a vector is asked for.

    Vectors that no file has are packed first, from the cache's entries. Raises ResumableError where the cache lacks an
    entry.
    """

    def __init__(self, cache: FeatureCache, digests: pa.Array, *, num_at_once: int) -> None:
        folder = cache.folder / "packed"
        packs = _packs(folder)
        if len(_missing(digests, packs)):
            with _alone(folder) as is_alone:  # of several processes of a machine one packs, the others wait
                if is_alone:
                    _clear(folder)
                packs = _packs(folder)
                packs += _packed(cache, _missing(digests, packs), num_at_once=num_at_once)
        self._row_bytes, self._shape, self._dtype = packs[0].row_bytes, packs[0].shape, packs[0].dtype
        place = places_of(digests, _digests(packs))
        starts = np.cumsum([0, *(len(pack.digests) for pack in packs)])
        self._pack: Int[np.ndarray, " clips"] = np.searchsorted(starts, place, side="right") - 1
        self._row: Int[np.ndarray, " clips"] = place - starts[self._pack]
        self._files = [pack.path.open("rb") for pack in packs]

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, index: int) -> Float[np.ndarray, "..."]:
        file, row = self._files[self._pack[index]], int(self._row[index])
        body = os.pread(file.fileno(), self._row_bytes, row * self._row_bytes)
        return np.frombuffer(body, self._dtype).reshape(self._shape)

    def portions(self) -> Iterator[Float[np.ndarray, "some ..."]]:
        """All vectors in order, some at a time."""
        files = [np.memmap(file, self._dtype, "r").reshape(-1, *self._shape) for file in self._files]
        for at in range(0, len(self), _CHUNK_CLIPS):
            pack, row = self._pack[at : at + _CHUNK_CLIPS], self._row[at : at + _CHUNK_CLIPS]
            vectors = np.empty((len(row), *self._shape), self._dtype)
            for number in np.unique(pack):
                vectors[pack == number] = files[number][row[pack == number]]
            yield vectors


def _digests(packs: Sequence[_Pack]) -> pa.ChunkedArray:
    return pa.chunked_array([pack.digests for pack in packs], pa.string())


def _missing(digests: pa.Array, packs: Sequence[_Pack]) -> pa.Array:
    return digests.filter(pa.array(places_of(digests, _digests(packs)) < 0)).unique()


def _packs(folder: Path) -> list[_Pack]:
    """The whole files in a folder; damaged ones are left out."""
    packs = []
    for path in sorted(folder.glob("*.parquet")):
        with suppress(FileNotFoundError):  # damaged, and deleted by another process since
            if pack := _whole_pack(path, path.stat().st_mtime_ns):
                packs.append(pack)
    return packs


def _clear(folder: Path) -> None:
    """Delete damaged files, with a warning, and partial files of killed processes; no other process may write there."""
    whole = {pack.path for pack in _packs(folder)}
    for path in folder.glob("*.parquet"):
        if path.with_suffix(".bin") not in whole:
            logger.warning("feature cache: %s is damaged and is packed again", path.with_suffix(".bin"))
            path.unlink()
    for path in (*folder.glob("*.bin"), *folder.glob(".*.part")):
        if path not in whole:
            path.unlink()


@functools.lru_cache(maxsize=1024)  # gigabytes, which a process need not read again for each fold
def _whole_pack(path: Path, modified_ns: int) -> _Pack | None:
    """The file that a table of digests belongs to; None where one of the two is damaged."""
    try:
        table = parse_parquet(str(path), path.read_bytes())
        facts = json.loads((table.schema.metadata or {})[_FACTS])
        pack = _Pack(
            path=path.with_suffix(".bin"),
            digests=whole(table["digest"]),
            dtype=facts["dtype"],
            shape=tuple(facts["shape"]),
            crc32c=facts["crc32c"],
        )
        return pack if pack.is_whole() else None
    except (storage.DamagedError, KeyError, FileNotFoundError):
        return None


def _packed(cache: FeatureCache, digests: pa.Array, *, num_at_once: int) -> list[_Pack]:
    """Files with the vectors of these digests, written now."""
    packs: list[_Pack] = []
    at = 0
    while at < len(digests):
        first = np.load(_local(cache, digests.slice(at, 1), num_at_once)[0])
        size = max(1, PACK_BYTES // max(1, first.nbytes))
        packs.append(_write(cache, digests.slice(at, size), first, num_at_once=num_at_once))
        at += size
    return packs


def _write(cache: FeatureCache, digests: pa.Array, like: np.ndarray, *, num_at_once: int) -> _Pack:
    name = _name(digests)
    path = cache.folder / "packed" / f"{name}.bin"
    part = path.with_name(f".{name}.{uuid.uuid4().hex}.part")
    crc = 0
    try:
        with part.open("wb") as file:
            for at in range(0, len(digests), _CHUNK_CLIPS):
                paths = _local(cache, digests.slice(at, _CHUNK_CLIPS), num_at_once)
                rows = np.stack([np.load(entry) for entry in paths])
                assert rows.shape[1:] == like.shape and rows.dtype == like.dtype, "vectors of one encoder"
                crc = google_crc32c.extend(crc, rows.tobytes())
                file.write(rows.tobytes())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    pack = _Pack(path=path, digests=digests, dtype=like.dtype.str, shape=like.shape, crc32c=crc)
    facts = json.dumps({"dtype": pack.dtype, "shape": list(pack.shape), "crc32c": crc}).encode()
    table = pa.table({"digest": digests}).replace_schema_metadata({_FACTS: facts})
    storage.write_bytes(str(path.with_suffix(".parquet")), to_parquet(table, sealed=True))
    return pack


def _name(digests: pa.Array) -> str:
    """A hash of the digests, a line each."""
    hashed = hashlib.sha256()
    for at in range(0, len(digests), _CHUNK_CLIPS):
        hashed.update(
            ("\n" if at else "").encode() + "\n".join(digests[at : at + _CHUNK_CLIPS].to_pylist()).encode()
        )
    return hashed.hexdigest()[:32]


def _local(cache: FeatureCache, digests: pa.Array, num_at_once: int) -> list[Path]:
    """The files of entries, which are on this machine's disk afterwards."""
    wanted = digests.to_pylist()
    localize(cache, wanted, num_at_once=num_at_once)
    return [cache.path(digest) for digest in wanted]


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """A block in which no other process of this machine packs in the folder; False on a file system without locks."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
