"""Bytes of a wav, flac, ogg or mp3 file to a mono 16 kHz waveform; what cannot be used raises AudioError."""

import io
import math
from typing import Literal

import numpy as np
import soundfile
from jaxtyping import Float

from w2v2.config.data import AudioConfig
from w2v2.errors import ClipError

SAMPLE_RATE = 16_000

MAX_CHANNELS = 64
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
# What one file may decode to, whatever its header says: an hour, and an hour of 48 kHz stereo in values.
MAX_DECODED_S = 3600.0
MAX_DECODED_VALUES = 3600 * 48_000 * 2
SILENCE = 1e-4

# Formats whose truncation is noticed; libsndfile opens others and returns what is left of them.
_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
_READ = "wav, flac, ogg and mp3 are read"
_TOLERANCE_S = 0.05
_MARGIN_S = 0.1
_MP3_FRAME = 1152
_HOP = 160


class AudioError(ClipError):
    """A clip that cannot be used; its message starts with a kind and a colon.

    Kinds: empty, not audio, truncated, absurd header, segment outside the file, too short, too long,
    not finite, silent.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        if not detail:  # a text of this package, whose kind has no colon
            kind, _, detail = kind.partition(": ")
        super().__init__(kind, detail)


def load_waveform(
    data: bytes, audio: AudioConfig, *, start_s: float = 0.0, end_s: float = math.inf
) -> Float[np.ndarray, " samples"]:
    """The waveform of a file's bytes from start_s to end_s: float32, mono (mean of the channels), 16 kHz.

    Then trimmed (audio.trim_db), cropped (audio.crop_s, audio.fixed_s), checked and filled up (audio.fixed_s); values are those of the decoder, in
    [-1, 1] but for the overshoot of lossy codecs, resampling and float files. The header is checked before
    anything is decoded, and no more than the segment is. Raises AudioError for a clip that cannot be used.
    """
    _check_whole(data)
    with _opened(data) as file:
        rate = file.samplerate
        _check_header(file)
        first, last = _segment(file.frames, rate, start_s=start_s, end_s=end_s)
        keep_s = min((s for s in (audio.crop_s, audio.fixed_s) if s), default=0.0)
        if keep_s and not audio.trim_db:
            last = min(last, first + math.ceil((keep_s + _MARGIN_S) * rate))
        _check_cost((last - first) / rate, file.channels * (last - first), audio)
        waveform = _mono(_decoded(file, first, last))
        is_finite = file.subtype.startswith("PCM_")  # integers always are
    if not is_finite and not np.isfinite(waveform).all():
        raise AudioError("not finite: the file holds NaN or infinite samples")
    waveform = resample(waveform, rate, audio.resampler)
    if audio.trim_db:
        waveform = trim(waveform, trim_db=audio.trim_db)
    if keep_s:
        waveform = waveform[: round(keep_s * SAMPLE_RATE)]
    _check_length(len(waveform) / SAMPLE_RATE, audio)
    if np.ptp(waveform) / 2 < SILENCE:
        raise AudioError(f"silent: the waveform stays within {SILENCE:g} of its mean")
    lacking = round(audio.fixed_s * SAMPLE_RATE) - len(waveform)
    return np.pad(waveform, (0, lacking)) if lacking > 0 else waveform


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


# -- decoding


def _opened(data: bytes) -> soundfile.SoundFile:
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"not audio: {error.error_string.strip()} ({_READ})") from error
    if file.format not in _FORMATS:
        raise AudioError(f"not audio: {file.format} is not taken ({_READ})")
    return file


def _decoded(file: soundfile.SoundFile, first: int, last: int) -> Float[np.ndarray, "samples channels"]:
    """Values of the frames from first to last; fewer than asked for is a truncated file."""
    try:
        if first:  # a FLAC's seek decodes, wherever it goes
            file.seek(first)
        values = file.read(last - first, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"truncated: {error.error_string.strip()}") from error
    # The length of an mp3 is an estimate, right to a frame of the codec.
    missing = last - first - len(values)
    if missing > (_MP3_FRAME if file.format == "MP3" else 0):
        raise AudioError(f"truncated: {missing} of {last - first} samples are missing")
    return values


def _mono(values: Float[np.ndarray, "samples channels"]) -> Float[np.ndarray, " samples"]:
    if values.shape[1] == 1:
        return values[:, 0]
    # Ten times as fast as the mean over an axis of length two.
    return values @ np.full(values.shape[1], 1 / values.shape[1], dtype=np.float32)


# -- checks


def _check_whole(data: bytes) -> None:
    """Raise AudioError where the container says that bytes are missing at the end."""
    if not data:
        raise AudioError("empty: the file has 0 bytes")
    match data[:4]:
        case b"RIFF":
            missing = _riff_missing(data, "little")
        case b"RIFX":
            missing = _riff_missing(data, "big")
        case b"OggS":
            missing = _ogg_missing(data)
        case _:
            return
    if missing:
        raise AudioError(f"truncated: {missing}")


def _riff_missing(data: bytes, order: Literal["little", "big"]) -> str:
    """What the data chunk lacks; sizes of 2^31 - 1 and more mean a stream of unknown length."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], order)
        if data[at : at + 4] == b"data":
            lacking = at + 8 + size - len(data)
            return f"{lacking} of {size} data bytes are missing" if lacking > 0 and size < 2**31 - 1 else ""
        at += 8 + size + size % 2
    return ""


def _ogg_missing(data: bytes) -> str:
    """What the last page lacks: bytes, or the mark of the stream's end."""
    at = data.rfind(b"OggS")
    head = data[at : at + 27]
    segments = data[at + 27 : at + 27 + head[26]] if len(head) == 27 else b""
    if len(head) < 27 or at + 27 + head[26] + sum(segments) > len(data):
        return "the last page is cut"
    return "" if head[5] & 4 else "the last page is not marked as the end"


def _check_header(file: soundfile.SoundFile) -> None:
    if file.channels > MAX_CHANNELS:
        raise AudioError(f"absurd header: {file.channels} channels > {MAX_CHANNELS}")
    if not MIN_RATE_HZ <= file.samplerate <= MAX_RATE_HZ:
        raise AudioError(f"absurd header: {file.samplerate} Hz outside [{MIN_RATE_HZ}, {MAX_RATE_HZ}]")


def _segment(num_frames: int, rate: int, *, start_s: float, end_s: float) -> tuple[int, int]:
    """First and last frame of the segment; an end up to 0.05 s behind the file's is the file's."""
    duration_s = num_frames / rate
    starts_inside = 0 <= start_s < min(end_s, duration_s)
    ends_inside = end_s == math.inf or end_s <= duration_s + _TOLERANCE_S
    if (start_s, end_s) != (0, math.inf) and not (starts_inside and ends_inside):
        raise AudioError(
            f"segment outside the file: {start_s:g} to {end_s:g} s of a file of {duration_s:g} s"
        )
    return round(start_s * rate), round(min(end_s, duration_s) * rate)


def _check_cost(duration_s: float, num_values: int, audio: AudioConfig) -> None:
    """Raise AudioError, before decoding, for what is too much or cannot pass the check of length."""
    if duration_s > MAX_DECODED_S or num_values > MAX_DECODED_VALUES:
        raise AudioError(f"absurd header: {duration_s:g} s and {num_values:.3g} values to decode")
    if audio.trim_db or audio.crop_s or audio.fixed_s:
        duration_s = min(duration_s, audio.max_s)
    _check_length(duration_s, audio)


def _check_length(duration_s: float, audio: AudioConfig) -> None:
    # Resampling rounds to whole samples.
    if duration_s < audio.min_s - 1 / SAMPLE_RATE:
        raise AudioError(f"too short: {duration_s:.4g} s < audio.min_s {audio.min_s:g}")
    if duration_s > audio.max_s + 1 / SAMPLE_RATE:
        raise AudioError(f"too long: {duration_s:.4g} s > audio.max_s {audio.max_s:g}")
