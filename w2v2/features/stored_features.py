"""The features of a corpus in the cache, counted without reading, decoding or loading anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.features.requests import AudioIndex
from w2v2.storage import files as storage


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """The features of some clips that earlier runs left in the cache."""

    durations_s: Sequence[float]
    """Seconds of each clip in order; NaN where its file is new or has changed."""
    has_features: Sequence[bool]
    """Whether each clip's features of all kinds are there."""
    num_bytes: int
    """Bytes of the stored features."""
    stored_s: float
    """Seconds of audio of the clips with stored features."""


def stored_features(
    clips: pa.Table, keys: Sequence[str], *, data: DataConfig, audio: AudioConfig, cache: CacheConfig
) -> StoredFeatures:
    """The features of the clips (with the column fingerprint) that the cache has in the folders of these keys; entries are not verified."""
    requests = AudioIndex(data, audio, cache).requests(clips)
    digests = [
        request.audio_digest if request.fingerprint == fingerprint else ""
        for request, fingerprint in zip(requests, clips["fingerprint"].to_pylist(), strict=True)
    ]
    durations = [
        request.num_samples / SAMPLE_RATE if digest else float("nan")
        for request, digest in zip(requests, digests, strict=True)
    ]
    folders = [_entries(cache, key) for key in keys]
    has = [bool(keys) and bool(digest) and all(digest in folder for folder in folders) for digest in digests]
    distinct = {digest for digest, is_cached in zip(digests, has, strict=True) if is_cached}
    return StoredFeatures(
        durations_s=durations,
        has_features=has,
        num_bytes=sum(folder[digest] for digest in distinct for folder in folders),
        stored_s=float(np.sum(np.array(durations)[np.array(has, bool)])) if any(has) else 0.0,
    )


def _entries(cache: CacheConfig, key: str) -> dict[str, int]:
    """The bytes of each entry by its digest."""
    folder = storage.join(storage.expand(cache.uri), "features", key)
    try:
        return {PurePosixPath(info.uri).stem: info.size_bytes for info in storage.list_files(folder)}
    except storage.NotFoundError:
        return {}
