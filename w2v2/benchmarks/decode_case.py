"""Decoding and resampling: a file's bytes to 16 kHz, by us and by the usual libraries, with their errors."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from w2v2.audio.decoding import SAMPLE_RATE, load_waveform
from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.result import OURS, Agreement, Comparison, alternate
from w2v2.config.data import AudioConfig

FORMATS = {
    "48 kHz wav of 3.7 s": ("WAV", 48_000, 1, 3.7),
    "16 kHz flac of 10 s": ("FLAC", 16_000, 1, 10.0),
    "44.1 kHz stereo mp3 of 45 s": ("MP3", 44_100, 2, 45.0),
}
# As good a filter as soxr's HQ, by torchaudio's documentation; the default filter lets frequencies above 8 kHz
# through.
KAISER_BEST: dict[str, Any] = {
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.769656459379492,
}
Decoder = Callable[[bytes], Float[np.ndarray, " samples"]]


def decode(config: BenchmarkConfig, scratch: Path) -> tuple[list[Comparison], list[Agreement], list[str]]:
    """Seconds per format and library, and how far each is from the most exact resampling."""
    import torch

    torch.set_num_threads(1)
    sides, notes = decoders()
    comparisons, agreements = [], []
    for part, (name, rate, channels, length_s) in FORMATS.items():
        data = encoded(name, rate=rate, channels=channels, length_s=length_s, seed=config.seed)

        def repeated(decoder: Decoder, data: bytes = data) -> Callable[[int], Float[np.ndarray, " samples"]]:
            return lambda number: [decoder(data) for _ in range(config.reading.num_decodes)][-1]

        runs = {side: repeated(decoder) for side, decoder in sides.items()}
        for decoder in sides.values():
            decoder(data)
        rounds = alternate(runs, rounds=config.rounds_of("reading"), what=part)
        comparisons.append(
            Comparison(
                part=part, seconds=rounds.seconds, cpu_seconds=rounds.cpu_seconds, amount=config.reading.num_decodes, unit="files",
                wanted={side: 1.0 for side in sides if side != OURS},
            )
        )  # fmt: skip
        exact = exactly(data)
        agreements += [
            Agreement(
                part=part, side=side, what="error against soxr VHQ, dB of the signal",
                value=-snr_db(exact, results[-1]), at_most=-50.0 if side == OURS else float("inf"),
            )
            for side, results in rounds.results.items()
        ]  # fmt: skip
    return comparisons, agreements, notes


def decoders() -> tuple[dict[str, Decoder], list[str]]:
    """Our decoder and the decoders of installed libraries, by name, and a note for each missing library."""
    audio = AudioConfig()
    sides: dict[str, Decoder] = {OURS: lambda data: load_waveform(data, audio), "soundfile + soxr HQ": _soxr}
    notes = []
    for side, make in (
        ("librosa", _librosa),
        ("torchaudio, kaiser best", lambda: _torchaudio(KAISER_BEST)),
        ("torchaudio, default filter", lambda: _torchaudio({})),
    ):
        try:
            sides[side] = make()
        except (ImportError, OSError) as error:
            notes.append(f"{side} is left out: {' '.join(str(error).split())[:120]}")
    return sides, notes


def _soxr(data: bytes) -> Float[np.ndarray, " samples"]:
    values, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return soxr.resample(values.mean(axis=1), rate, SAMPLE_RATE, quality="HQ")


def _librosa() -> Decoder:
    import librosa

    return lambda data: librosa.load(io.BytesIO(data), sr=SAMPLE_RATE, mono=True)[0]


def _torchaudio(filters: dict[str, Any]) -> Decoder:
    """torchaudio.load needs torchcodec; where that is missing soundfile decodes, and is faster."""
    import torch
    from torchaudio.functional import resample

    def run(data: bytes) -> Float[np.ndarray, " samples"]:
        values, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        mono = torch.from_numpy(values).mean(1)
        return (mono if rate == SAMPLE_RATE else resample(mono, rate, SAMPLE_RATE, **filters)).numpy()

    return run


def encoded(name: str, *, rate: int, channels: int, length_s: float, seed: int) -> bytes:
    """A file of synthetic speech."""
    speech = synthetic_clips.speech(length_s, actor=3, emotion=5, seed=seed)
    sound = soxr.resample(speech, SAMPLE_RATE, rate, quality="VHQ")
    noise = 0.003 * np.random.default_rng([seed, rate]).standard_normal((len(sound), channels))
    buffer = io.BytesIO()
    soundfile.write(buffer, (sound[:, None] + noise).clip(-1, 1), rate, format=name)
    return buffer.getvalue()


def exactly(data: bytes) -> Float[np.ndarray, " samples"]:
    """The file's waveform, resampled in float64 with soxr VHQ."""
    values, rate = soundfile.read(io.BytesIO(data), dtype="float64", always_2d=True)
    return soxr.resample(values.mean(axis=1), rate, SAMPLE_RATE, quality="VHQ")


def snr_db(exact: Float[np.ndarray, " samples"], got: Float[np.ndarray, " other"]) -> float:
    """Power of the exact waveform over the power of the error, in dB, over the samples that both have."""
    num = min(len(exact), len(got))
    error = got[:num].astype(np.float64) - exact[:num]
    return float(10 * np.log10((exact[:num] ** 2).sum() / max((error**2).sum(), 1e-30)))
