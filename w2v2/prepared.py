"""A clip whose features are asked for, and what became of it."""

import hashlib
from dataclasses import astuple, dataclass

from w2v2.config import AudioConfig


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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A clip whose features are in the cache, or the reason why it cannot be used."""

    clip_id: str
    fingerprint: str = ""
    audio_digest: str = ""
    num_samples: int = 0
    reason: str = ""
    num_forwards: int = 0
    """Passes of this clip through a trunk: 0 when every entry was there."""


def audio_key(audio: AudioConfig, uri: str) -> str:
    """Digest of a corpus's place and the preprocessing of its audio, 16 hex digits."""
    return hashlib.sha256(repr((astuple(audio), uri)).encode()).hexdigest()[:16]
