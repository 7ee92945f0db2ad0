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
    max_s: float = math.inf,
) -> Clip:
    """The clip from start_s to end_s (seconds) of a file, given as `storage.read_many` returns it: bytes or an error.

    Raises that StorageError, and AudioError for a clip that cannot be used or that has fewer than min_samples
    samples (at 16 kHz), the least that the encoder needs for one frame.
    """
    if isinstance(body, StorageError):
        raise body
    clip = load_clip(body, audio, start_s=start_s, end_s=end_s)
    if len(clip.waveform) > max_s * SAMPLE_RATE:
        raise AudioError(
            "too long",
            f"{len(clip.waveform) / SAMPLE_RATE:.4g} s > {max_s:g} s, the most that the encoder takes; use --audio.crop_s "
            f"{max_s:g}, or windows",
        )
    if len(clip.waveform) < min_samples:
        has_s, needed_s = len(clip.waveform) / SAMPLE_RATE, min_samples / SAMPLE_RATE
        raise AudioError("too short", f"{has_s:.3f} s < {needed_s:.3f} s, one frame of the encoder")
    return clip


def waveform_digest(waveform: Float[np.ndarray, " samples"]) -> str:
    """BLAKE2b of the samples, 32 hex digits: equal for equal audio, whatever the file around it."""
    return hashlib.blake2b(waveform.astype("<f4").tobytes(), digest_size=16).hexdigest()


def normalized(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """The waveform with zero mean and unit variance over its samples, float32.

    Computed as transformers' Wav2Vec2FeatureExtractor does for a single clip.
    """
    wide = waveform.astype(np.float64)
    return ((wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)).astype(np.float32)


def windows(num_samples: int, *, window_s: float, hop_s: float, min_samples: int) -> list[tuple[int, int]]:
    """First sample and end of each window of a clip at 16 kHz; window_s 0 is the whole clip.

    The last window is cut at the clip's end, and left out if it has fewer than min_samples (unless it is the
    only one). hop_s 0 is hop_s = window_s.

    >>> windows(40_000, window_s=1.0, hop_s=0.0, min_samples=400)
    [(0, 16000), (16000, 32000), (32000, 40000)]
    """
    if not window_s:
        return [(0, num_samples)]
    length, hop = round(window_s * SAMPLE_RATE), round((hop_s or window_s) * SAMPLE_RATE)
    # Windows begin as long as the one before has not reached the end.
    num_more = max(0, -(-(num_samples - length) // hop))
    spans = [(at * hop, min(at * hop + length, num_samples)) for at in range(num_more + 1)]
    return [span for span in spans if span[0] == 0 or span[1] - span[0] >= min_samples]
