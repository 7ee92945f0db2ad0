"""A clip whose features are asked for, and what became of it."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from w2v2.audio.decoding import DECODER_VERSION
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.errors import Reject
from w2v2.storage import files as storage
from w2v2.storage.parquet import DAMAGE, to_parquet


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip to prepare, and what an earlier run knew of its file ('' if nothing)."""

    clip_id: str
    uri: str
    start_s: float
    end_s: float
    fingerprint: str = ""
    audio_digest: str = ""
    num_samples: int = 0
    tolerated: str = ""


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """A clip whose features are in the cache, or why it cannot be used."""

    clip_id: str
    fingerprint: str = ""
    audio_digest: str = ""
    num_samples: int = 0
    tolerated: str = ""
    """What the file lacks though its sound is whole (audio.decoding.Clip)."""
    reject: Reject | None = None
    num_forwards: int = 0
    """Passes of this clip through a trunk: 0 when every entry was there."""


def audio_key(audio: AudioConfig, uri: str) -> str:
    """Digest of a corpus's place and the preprocessing of its audio, 16 hex digits."""
    return hashlib.sha256(repr((astuple(audio), uri)).encode()).hexdigest()[:16]


logger = logging.getLogger(__name__)

LEARNT = ("fingerprint", "audio_digest", "num_samples", "tolerated")


class AudioIndex:
    """From a file's fingerprint to the digest of the audio in it, for one corpus and one preprocessing."""

    def __init__(self, data: DataConfig, audio: AudioConfig, cache: CacheConfig) -> None:
        name = f"{audio_key(audio, data.uri)}.parquet"
        self._uri = storage.join(storage.expand(cache.uri), "index", name)
        self._rows: dict[tuple[str, float, float], dict[str, Any]] = {}
        try:
            body = storage.read_bytes(self._uri)
        except storage.NotFoundError:
            return
        try:
            rows = pq.read_table(pa.BufferReader(body)).to_pylist()
            # What an earlier decoder made of a file may have been a part of it.
            rows = [row for row in rows if row.get("decoder") == DECODER_VERSION]
            self._rows = {(row["uri"], row["start_s"], row["end_s"]): row for row in rows}
        except DAMAGE:
            logger.warning("%s is damaged: the audio is read again", self._uri)

    def requests(self, clips: pa.Table) -> list[Request]:
        """A request for every clip, with what is known of its file."""
        return [
            self._request(row) for row in clips.select(["clip_id", "uri", "start_s", "end_s"]).to_pylist()
        ]

    def _request(self, clip: dict[str, Any]) -> Request:
        known = self._rows.get((clip["uri"], clip["start_s"], clip["end_s"]), {})
        return Request(**clip, **{name: known[name] for name in LEARNT if name in known})

    def save(self, requests: Sequence[Request], prepared: Sequence[ClipFeatures]) -> None:
        """Keep what was learnt now; clips that could not be used are asked for again."""
        rows = [
            {
                "uri": request.uri,
                "start_s": request.start_s,
                "end_s": request.end_s,
                "decoder": DECODER_VERSION,
            }
            | {name: getattr(found, name) for name in LEARNT}
            for request, found in zip(requests, prepared, strict=True)
            if found.audio_digest
        ]
        storage.write_bytes(self._uri, to_parquet(pa.Table.from_pylist(rows)))
