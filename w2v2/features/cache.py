"""The feature cache: arrays by digest in a folder or bucket, sealed, mirrored on the local disk and memory-mapped."""

import hashlib
import io
import logging
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from w2v2.config.data import CacheConfig
from w2v2.errors import ResumableError
from w2v2.storage import files as storage
from w2v2.storage.files import StorageError

logger = logging.getLogger(__name__)


class FeatureCache:
    """Arrays by digest in a folder or gs:// prefix; entries in gs:// are mirrored on the local disk."""

    def __init__(self, cache: CacheConfig, key: str) -> None:
        self.dtype = np.dtype(cache.dtype)
        self.pooled = key.startswith("pooled")
        self.uri = storage.join(storage.expand(cache.uri), "features", key)
        self.folder = Path(self.uri)
        if storage.is_remote(self.uri):
            place = hashlib.sha256(f"{self.uri} {_mark(self.uri)}".encode()).hexdigest()[:16]
            self.folder = Path(storage.expand("~/.cache/w2v2")) / "mirror" / place

    def path(self, digest: str) -> Path:
        """The path of the entry on the local disk."""
        return self.folder / digest[:2] / f"{digest}.npy"

    def _remote(self, digest: str) -> str:
        return storage.join(self.uri, digest[:2], f"{digest}.npy")

    def intact(self, digests: Iterable[str], *, num_at_once: int) -> set[str]:
        """The digests whose entries are whole; a remote entry is on the local disk afterwards."""
        wanted = sorted(set(digests))
        good = {digest for digest in wanted if self._read(digest) is not None}
        missing = [digest for digest in wanted if digest not in good]
        if not storage.is_remote(self.uri) or not missing:
            return good
        bodies = storage.read_many([self._remote(d) for d in missing], num_at_once=num_at_once)
        for digest, body in zip(missing, bodies, strict=True):
            if isinstance(body, StorageError):
                if not isinstance(body, storage.NotFoundError | storage.DamagedError):
                    raise body
            elif _unsealed(body) is not None:
                storage.write_bytes(str(self.path(digest)), body)
                good.add(digest)
        return good

    def write(self, arrays: Sequence[tuple[str, Float[np.ndarray, "_ ..."]]], *, num_at_once: int) -> None:
        """Store arrays; each entry appears whole or not at all."""
        sealed = [(digest, _sealed(array.astype(self.dtype))) for digest, array in arrays]
        for digest, body in sealed:
            storage.write_bytes(str(self.path(digest)), body)
        if storage.is_remote(self.uri):
            storage.write_many(((self._remote(d), body) for d, body in sealed), num_at_once=num_at_once)

    def _read(self, digest: str) -> bytes | None:
        try:
            body = storage.read_bytes(str(self.path(digest)))
        except storage.NotFoundError:
            return None
        content = _unsealed(body)
        if content is None:
            logger.warning("feature cache: %s is damaged and is computed again", self.path(digest))
        return content


def _mark(uri: str) -> str:
    """An id that is made with a remote cache, so that the mirror of a deleted cache is not used for a new one of the same name."""
    place = storage.join(uri, "mark.txt")
    if not storage.exists(place):
        storage.create(place, uuid.uuid4().hex.encode())
    return storage.read_text(place)


class MappedFeatures:
    """Entries of a cache, memory-mapped so that all processes of a machine share them.

    A remote entry that is not on this machine's disk is downloaded when it is read, or before that in the
    background, after `expect`: so each worker downloads its share only.
    """

    def __init__(
        self, cache: FeatureCache, digests: Sequence[str] | pa.Array, *, num_at_once: int = 16
    ) -> None:
        self._cache, self._num_at_once = cache, num_at_once
        # Of a million clips Arrow takes half the memory of Python's texts.
        self._digests = pa.array(digests, pa.string())
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._fetching: dict[str, Future[None]] = {}

    def __len__(self) -> int:
        return len(self._digests)

    def __getitem__(self, index: int) -> Float[np.ndarray, "frames ..."]:
        digest = self._digests[index].as_py()
        path = self._cache.path(digest)
        if not path.exists():
            self.expect([index])
            if coming := self._fetching.pop(digest, None):
                coming.result()
        try:
            return np.load(path, mmap_mode="r")
        except FileNotFoundError as error:
            raise ResumableError(
                f"cache.uri {self._cache.uri} lost {path.name} while this run reads it: run the same command again, which "
                "prepares it again and resumes"
            ) from error

    def expect(self, indices: Int[np.ndarray, " clips"] | Sequence[int]) -> None:
        """Begin to download the entries of these clips that are not on this machine's disk."""
        self._fetching = {digest: coming for digest, coming in self._fetching.items() if not coming.done()}
        wanted = self._digests.take(pa.array(indices, pa.int64())).to_pylist()
        missing = [d for d in wanted if d not in self._fetching and not self._cache.path(d).exists()]
        if missing:
            coming = self._reader.submit(localize, self._cache, missing, num_at_once=self._num_at_once)
            self._fetching |= dict.fromkeys(missing, coming)


def localize(cache: FeatureCache, digests: Sequence[str], *, num_at_once: int) -> None:
    """Download the entries that are not on this machine's disk. Raises ResumableError where one is gone from the cache."""
    missing = [digest for digest in digests if not cache.path(digest).exists()]
    if missing and not storage.is_remote(cache.uri):
        raise ResumableError(
            f"cache.uri {cache.uri} lacks {len(missing)} entries on this machine: if it was deleted, run the same command "
            "again, which prepares them again and resumes; on a cluster of several nodes it must be a gs:// prefix or a "
            "folder that all nodes share"
        )
    left = set(missing) - cache.intact(missing, num_at_once=num_at_once)
    if left:
        raise ResumableError(
            f"cache.uri {cache.uri} lost {len(left)} entries since this run began: run the same command again, which "
            "prepares them again and resumes"
        )


def _sealed(array: Float[np.ndarray, "frames ..."]) -> bytes:
    """An .npy file followed by its crc32c."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    content = buffer.getvalue()
    return content + google_crc32c.value(content).to_bytes(4, "big")


def _unsealed(body: bytes) -> bytes | None:
    content, seal = body[:-4], body[-4:]
    return content if google_crc32c.value(content).to_bytes(4, "big") == seal else None
