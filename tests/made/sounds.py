"""Waveforms, and sound files of them as libsndfile and FFmpeg write them."""

import io
import math
import tempfile
from pathlib import Path

import av
import numpy as np
import soundfile

from w2v2.audio.decoding import SAMPLE_RATE

FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]
FORMATS += [("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")]
"""Formats and subtypes of libsndfile."""


def encode(
    values: np.ndarray, rate: int = SAMPLE_RATE, fmt: str = "WAV", subtype: str = "FLOAT", **options
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=fmt, subtype=subtype, **options)
    return file.getvalue()


def sine(seconds: float, rate: int = SAMPLE_RATE, hz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(num: int, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (num, channels)).astype(np.float32).squeeze()


def tone_db(wanted: np.ndarray, got: np.ndarray) -> float:
    """Signal to error in dB."""
    return 10 * math.log10(np.mean(wanted**2) / (np.mean((wanted - got) ** 2) + 1e-20))


def sound(seconds: float, *, seed: int = 0, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Noise whose pitch and loudness wander, so that each second differs from every other."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    sweep = np.sin(2 * np.pi * (200 + 40 * seed + 30 * time) * time)
    return (0.3 * sweep * (0.6 + 0.4 * np.sin(time)) + 0.01 * rng.standard_normal(len(time))).astype(
        np.float32
    )


def written(values: np.ndarray, fmt: str, subtype: str | None = None, rate: int = SAMPLE_RATE) -> bytes:
    """A sound file as libsndfile writes it by default."""
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=fmt, subtype=subtype)
    return file.getvalue()


def encoded(
    values: np.ndarray, container: str, codec: str, *, rate: int = SAMPLE_RATE, **options: str
) -> bytes:
    """What FFmpeg writes."""
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115
    bits = int(options.pop("bit_rate", 64_000))
    with file, av.open(file.name, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = bits
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        for at in range(0, len(values), 4_096):
            frame = av.AudioFrame.from_ndarray(values[None, at : at + 4_096], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, at
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
        out.close()
        return Path(file.name).read_bytes()
