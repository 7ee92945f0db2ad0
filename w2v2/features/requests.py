"""Requests for the features of clips, their outcome, and the index from files to the digests of their audio."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from w2v2.audio.decoding import DECODER_VERSION, decoder_of
from w2v2.audio.quality import Quality
from w2v2.config.data import FIRST_AUDIO_FIELDS, AudioConfig, CacheConfig, DataConfig
from w2v2.config.digest import positional, settings_digest
from w2v2.data.recording_quality import QUALITY, recorded_quality
from w2v2.errors import Reject
from w2v2.storage import files as storage
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet, seal_parquet


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip to prepare, with what an earlier run learnt about its file ('' if nothing)."""

    clip_id: str
    uri: str
    start_s: float
    end_s: float
    fingerprint: str = ""
    audio_digest: str = ""
    num_samples: int = 0
    tolerated: str = ""
    quality: Quality | None = None


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """A clip whose features are in the cache, or the reject that says why it cannot be used."""

    clip_id: str
    fingerprint: str = ""
    audio_digest: str = ""
    num_samples: int = 0
    tolerated: str = ""
    """What the file lacks though its sound is whole (audio.decoding.Clip)."""
    quality: Quality | None = None
    """None where the audio was read by a version that did not measure it."""
    reject: Reject | None = None
    num_forwards: int = 0
    """Passes of this clip through a trunk: 0 if the cache had every entry."""


def audio_keys(audio: AudioConfig, uri: str) -> list[str]:
    """Digests of a corpus's place and its audio settings: the present one, then those that earlier versions used."""
    keys = [settings_digest("audio index", audio=audio, uri=uri)]
    values = positional(audio, FIRST_AUDIO_FIELDS)
    if values is not None:
        keys.append(hashlib.sha256(repr((values, uri)).encode()).hexdigest()[:16])
    return keys


logger = logging.getLogger(__name__)

LEARNT = ("fingerprint", "audio_digest", "num_samples", "tolerated")
INDEX = pa.schema(
    [
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("fingerprint", pa.string()),
        ("audio_digest", pa.string()),
        ("num_samples", pa.int64()),
        ("tolerated", pa.string()),
        *QUALITY.items(),
        ("decoder", pa.int64()),
    ]
)


class AudioIndex:
    """From a file's fingerprint to the digest of the audio in it, for one corpus and one preprocessing."""

    def __init__(self, data: DataConfig, audio: AudioConfig, cache: CacheConfig) -> None:
        folder = storage.join(storage.expand(cache.uri), "index")
        uris = [storage.join(folder, f"{key}.parquet") for key in audio_keys(audio, data.uri)]
        self._uri = uris[0]
        rows = next((rows for uri in uris if (rows := _read_rows(uri)) is not None), [])
        self._rows = {(row["uri"], row["start_s"], row["end_s"]): row for row in rows}

    def requests(self, clips: pa.Table) -> list[Request]:
        """A request for every clip, with what earlier runs learnt about its file."""
        return [
            self._request(row) for row in clips.select(["clip_id", "uri", "start_s", "end_s"]).to_pylist()
        ]

    def _request(self, clip: dict[str, Any]) -> Request:
        row = self._rows.get((clip["uri"], clip["start_s"], clip["end_s"]), {})
        learnt = {name: row[name] for name in LEARNT if row.get(name) is not None}
        return Request(**clip, **learnt, quality=recorded_quality(row))

    def save(self, requests: Sequence[Request], prepared: Sequence[ClipFeatures]) -> None:
        """Write the index with the usable clips added; the others are read again by the next run."""
        rows = [
            {
                "uri": request.uri,
                "start_s": request.start_s,
                "end_s": request.end_s,
                "decoder": DECODER_VERSION,
            }
            | {name: getattr(clip, name) for name in LEARNT}
            | (asdict(clip.quality) if clip.quality else {})
            for request, clip in zip(requests, prepared, strict=True)
            if clip.audio_digest
        ]
        storage.write_bytes(self._uri, seal_parquet(to_parquet(pa.Table.from_pylist(rows, schema=INDEX))))


def _read_rows(uri: str) -> list[dict[str, Any]] | None:
    """The rows of an index; None where it is missing or damaged."""
    try:
        rows = parse_parquet(uri, storage.read_bytes(uri), INDEX).to_pylist()
        # An earlier decoder may have decoded only a part of the file.
        return [row for row in rows if row["decoder"] == DECODER_VERSION or not decoder_of(row["uri"])]
    except storage.NotFoundError:
        return None
    except storage.DamagedError as error:
        logger.warning("%s: the audio is read again", error)
        return None
