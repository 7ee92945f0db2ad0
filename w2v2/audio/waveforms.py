"""Waveforms as arrays at 16 kHz: read from a file's bytes and checked, their digest, normalisation and windows."""

import hashlib
import math

import numpy as np
from jaxtyping import Float

from w2v2.audio.decoding import SAMPLE_RATE, AudioError, Clip, load_clip
from w2v2.config.data import AudioConfig
from w2v2.storage.files import StorageError


def read_clip(
    body: bytes | StorageError,
    audio: AudioConfig,
    *,
    start_s: float = 0.0,
    end_s: float = math.inf,
    min_samples: int = 0,
) -> Clip:
    """The 16 kHz waveform of a segment of a file, as `storage.read_many` returns the file, and what was tolerated.

    Raises the StorageError in place of the bytes, and AudioError for a clip that cannot be used or has fewer
    than min_samples samples, the least that the encoder needs for one frame.
    """
    if isinstance(body, StorageError):
        raise body
    clip = load_clip(body, audio, start_s=start_s, end_s=end_s)
    if len(clip.waveform) < min_samples:
        has_s, needed_s = len(clip.waveform) / SAMPLE_RATE, min_samples / SAMPLE_RATE
        raise AudioError("too short", f"{has_s:.3f} s < {needed_s:.3f} s, one frame of the encoder")
    return clip


def waveform_digest(waveform: Float[np.ndarray, " samples"]) -> str:
    """BLAKE2b of the samples, 32 hex digits: equal for equal audio, whatever the file around it."""
    return hashlib.blake2b(waveform.astype("<f4").tobytes(), digest_size=16).hexdigest()


def normalized(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """Zero mean and unit variance over the clip's own samples, as transformers' feature extractor does."""
    wide = waveform.astype(np.float64)
    return ((wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)).astype(np.float32)


def windows(num_samples: int, *, window_s: float, hop_s: float, min_samples: int) -> list[tuple[int, int]]:
    """First and last sample of each window, the last one cut at the clip's end; window_s 0 is the whole clip.

    A cut window of fewer than min_samples is left out (unless it is the only one).
    """
    if not window_s:
        return [(0, num_samples)]
    length, hop = round(window_s * SAMPLE_RATE), round((hop_s or window_s) * SAMPLE_RATE)
    # Windows begin as long as the one before has not reached the end.
    num_more = max(0, -(-(num_samples - length) // hop))
    spans = [(at * hop, min(at * hop + length, num_samples)) for at in range(num_more + 1)]
    return [span for span in spans if span[0] == 0 or span[1] - span[0] >= min_samples]
