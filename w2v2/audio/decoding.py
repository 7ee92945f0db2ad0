"""Bytes of an audio file to a mono 16 kHz waveform; AudioError for audio that cannot be used."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from w2v2.audio.audio_error import AudioError
from w2v2.audio.containers import identify
from w2v2.audio.decoders import Decoder, Sound, open_decoder
from w2v2.audio.quality import Quality, clipping_fraction, quality_of
from w2v2.config.data import AudioConfig

__all__ = [
    "DECODER_VERSION",
    "SAMPLE_RATE",
    "AudioError",
    "Clip",
    "decoder_of",
    "load_clip",
    "load_waveform",
    "resample",
    "trim",
]

SAMPLE_RATE = 16_000
DECODER_VERSION = 2
"""Raised when a file's samples change: files that an earlier version decoded are then read again."""

# Limits of one decoded file, whatever its header says: an hour, and the number of values of an hour of 48 kHz stereo.
MAX_DECODED_S = 3600.0
MAX_DECODED_VALUES = 3600 * 48_000 * 2
SILENCE = 1e-4

# Float samples beyond the overshoot of a lossy codec are on another scale, up to the scale of 16-bit integers. Beyond
# the scale of 32-bit integers they are no sound, and their squares overflow.
LOUD_PEAK, MAX_PEAK = 8.0, 2.0**31
_TOLERANCE_S = 0.05
_MARGIN_S = 0.1
_HOP = 160


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A decoded clip."""

    waveform: Float[np.ndarray, " samples"]
    """float32, mono, 16 kHz."""
    sample_rate: int
    """The file's sampling rate in Hz."""
    tolerated: str
    """Damage of the file, or what it lacks (an end mark, a size), although it is used; '' for most files."""
    quality: Quality
    """The recording quality of the samples in the file, without the zeros that fill it up to audio.fixed_s."""


def decoder_of(uri: str) -> tuple[int, ...]:
    """The version of the decoder that reads a file, () for formats whose samples no version has changed.

    Part of the key under which features of the file are cached.
    """
    return () if uri.lower().endswith((".wav", ".flac")) else (DECODER_VERSION,)


def load_waveform(
    data: bytes, audio: AudioConfig, *, start_s: float = 0.0, end_s: float = math.inf
) -> Float[np.ndarray, " samples"]:
    """The mono waveform at 16 kHz, float32, of a file's bytes from start_s to end_s (seconds); see load_clip.

    Raises AudioError for a clip that cannot be used.
    """
    return load_clip(data, audio, start_s=start_s, end_s=end_s).waveform


def load_clip(data: bytes, audio: AudioConfig, *, start_s: float = 0.0, end_s: float = math.inf) -> Clip:
    """The clip in a file's bytes from start_s to end_s (seconds): float32, mono (mean of the channels), 16 kHz.

    Then trimmed (audio.trim_db), cropped (audio.crop_s, audio.fixed_s), checked and filled up (audio.fixed_s);
    values come from the decoder, and are in [-1, 1] except for the overshoot of lossy codecs, resampling and float
    files.
    The header is checked before anything is decoded, and no more than the segment is. The length is what decoding
    gives, whatever a header estimates. Raises AudioError for a clip that cannot be used.
    """
    container = identify(data)
    decoder = open_decoder(container)
    rate = decoder.rate_hz
    first, last = _segment(decoder.num_frames, rate, start_s=start_s, end_s=end_s)
    keep_s = min((s for s in (audio.crop_s, audio.fixed_s) if s), default=0.0)
    if keep_s and not audio.trim_db:
        last = min(last, first + math.ceil((keep_s + _MARGIN_S) * rate))
    stop = _stop_frame(first, last, decoder, audio)
    sound = decoder.read(first, stop)
    if sound.num_frames < last:  # shorter than the header claims, or of a length that no header gives
        _segment(sound.num_frames, rate, start_s=start_s, end_s=end_s)
    if last > stop <= sound.num_frames:
        raise AudioError("too long", f"more than {(stop - first) / rate:.4g} s (audio.max_s {audio.max_s:g})")
    waveform, loud = _checked_samples(sound)
    waveform = resample(waveform, rate, audio.resampler)
    if audio.trim_db:
        waveform = trim(waveform, trim_db=audio.trim_db)
    if keep_s:
        waveform = waveform[: round(keep_s * SAMPLE_RATE)]
    _check_length(len(waveform) / SAMPLE_RATE, audio)
    if np.ptp(waveform) / 2 < SILENCE:
        raise AudioError("silent", f"the waveform stays within {SILENCE:g} of its mean")
    lacking = round(audio.fixed_s * SAMPLE_RATE) - len(waveform)
    return Clip(
        waveform=np.pad(waveform, (0, lacking)) if lacking > 0 else waveform,
        sample_rate=rate,
        tolerated="; ".join(filter(None, (container.tolerated, sound.tolerated, loud))),
        quality=quality_of(waveform, SAMPLE_RATE, clipping_fraction=clipping_fraction(sound.values)),
    )


def resample(
    waveform: Float[np.ndarray, " samples"],
    sample_rate: int,
    resampler: Literal["soxr", "torchaudio", "librosa"],
) -> Float[np.ndarray, " resampled"]:
    """The waveform at 16 kHz, unchanged if it has that rate: soxr HQ, or the others' default."""
    if sample_rate == SAMPLE_RATE:
        return waveform
    match resampler:
        case "soxr":
            import soxr

            return soxr.resample(waveform, sample_rate, SAMPLE_RATE, quality="HQ")
        case "torchaudio":
            import torch
            from torchaudio.functional import resample as torchaudio_resample

            return torchaudio_resample(torch.from_numpy(waveform), sample_rate, SAMPLE_RATE).numpy()
        case "librosa":
            import librosa

            return librosa.resample(waveform, orig_sr=sample_rate, target_sr=SAMPLE_RATE)


def trim(waveform: Float[np.ndarray, " samples"], *, trim_db: float) -> Float[np.ndarray, " kept"]:
    """The waveform from its first to its last 10 ms whose power is within trim_db of the loudest 10 ms."""
    if not len(waveform):
        return waveform
    starts = np.arange(0, len(waveform), _HOP)
    lengths = np.diff(starts, append=len(waveform))
    power = np.add.reduceat(np.square(waveform, dtype=np.float64), starts) / lengths
    loud = np.flatnonzero(power >= power.max() * 10 ** (-trim_db / 10))
    return waveform[loud[0] * _HOP : (loud[-1] + 1) * _HOP]


# -- checks


def _segment(num_frames: float, rate: int, *, start_s: float, end_s: float) -> tuple[int, float]:
    """First and last frame of the segment; an end at most 0.05 s after the file's counts as the file's.

    num_frames is inf where the length is unknown; the last frame may then be after the end, too.
    """
    duration_s = num_frames / rate
    starts_inside = 0 <= start_s < min(end_s, duration_s)
    ends_inside = end_s == math.inf or end_s <= duration_s + _TOLERANCE_S
    if (start_s, end_s) != (0, math.inf) and not (starts_inside and ends_inside):
        raise AudioError(
            "segment outside the file", f"{start_s:g} to {end_s:g} s of a file of {duration_s:g} s"
        )
    last_s = min(end_s, duration_s)
    return round(start_s * rate), math.inf if last_s == math.inf else round(last_s * rate)


def _stop_frame(first: int, last: float, decoder: Decoder, audio: AudioConfig) -> float:
    """The frame at which to stop decoding. Raises AudioError, before decoding, for a segment that is too long or too short."""
    rate, channels = decoder.rate_hz, decoder.num_channels
    most = min(MAX_DECODED_S * rate, MAX_DECODED_VALUES / channels)
    num_frames = last - first
    if num_frames < math.inf:
        if num_frames > most:
            raise AudioError(
                "too long",
                f"{num_frames / rate:g} s, and at most {most / rate:g} s of such a file are decoded at once; cut it, or name its "
                "parts by start_s and end_s in a table of clips",
            )
        duration_s = num_frames / rate
        _check_length(min(duration_s, audio.max_s) if _shortens(audio) else duration_s, audio)
        return last
    # Of unknown length: what is too long shows when more is there.
    return first + math.ceil(most if _shortens(audio) else min(most, audio.max_s * rate + 2))


def _shortens(audio: AudioConfig) -> bool:
    return bool(audio.trim_db or audio.crop_s or audio.fixed_s)


def _checked_samples(sound: Sound) -> tuple[Float[np.ndarray, " samples"], str]:
    """The samples, and `tolerated` if their scale is unusual. Raises AudioError for NaN, infinite and absurd samples."""
    if sound.is_integer or not len(sound.values):
        return sound.values, ""
    peak = float(np.abs(sound.values).max())
    if not math.isfinite(peak):
        raise AudioError("not finite", "the file holds NaN or infinite samples")
    if peak > MAX_PEAK:
        raise AudioError(
            "absurd samples", f"up to {peak:.3g}, wanted -1 to 1 (or the scale of 16-bit integers)"
        )
    return sound.values, f"samples up to {peak:.3g}" if peak > LOUD_PEAK else ""


def _check_length(duration_s: float, audio: AudioConfig) -> None:
    # Resampling rounds to whole samples.
    if duration_s < audio.min_s - 1 / SAMPLE_RATE:
        raise AudioError("too short", f"{duration_s:.4g} s < audio.min_s {audio.min_s:g}")
    if duration_s > audio.max_s + 1 / SAMPLE_RATE:
        raise AudioError("too long", f"{duration_s:.4g} s > audio.max_s {audio.max_s:g}")
