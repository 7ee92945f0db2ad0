"""Augmentation of training waveforms, drawn by seed, epoch and clip alone: the same in any order and on any worker.

By librosa and numpy: audiomentations needs soxr before 1.0, and draws from the process-wide random generators,
whose state depends on prefetching and is lost when a run resumes.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.audio.waveforms import normalized
from w2v2.config.model import AugmentConfig
from w2v2.features.batches import Features, FetchedFeatures

STFT = {"n_fft": 512, "hop_length": 128}
FADE_S = 0.005
"""How long a masked stretch takes to fall silent and to come back, so that it does not click."""
MIN_SAMPLES = SAMPLE_RATE // 40
"""No clip becomes shorter than 25 ms, one frame of an encoder."""


def augmented(
    waveform: Float[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float[np.ndarray, " changed"]:
    """The waveform (16 kHz) with each of the changes of `config.kinds` made or not, by `config.probability`.

    float32 and finite; the same generator state gives the same samples. All changes keep the length but
    `speed`, which divides it by its factor. They are applied in this order, whatever the order of kinds:

    - speed: phase vocoder, so that pitch stays; factor uniform on a log scale
    - shift: rotated in time by up to `shift_fraction` of the clip, either way
    - time_mask: a stretch of up to `mask_fraction` of the clip falls silent (zeros), after SpecAugment (Park et al. 2019)
    - frequency_mask: a band of up to `mask_fraction` of the mel scale from 0 to 8 kHz falls silent, after SpecAugment
    - noise: white, `snr_db` below the level of the whole clip
    - gain: level changed by `gain_db`; samples may leave [-1, 1]
    """
    for kind, change in (
        ("speed", _speed),
        ("shift", _shift),
        ("time_mask", _time_mask),
        ("frequency_mask", _frequency_mask),
        ("noise", _noise),
        ("gain", _gain),
    ):
        if kind in config.kinds and rng.random() < config.probability:
            waveform = change(waveform, config, rng)
    return waveform.astype(np.float32)


class AugmentedFeatures:
    """Waveforms of training clips, changed anew in each epoch by `augmented`.

    `features` are waveforms (the cut of encoder.train=all), with zero mean and unit variance if the encoder wants
    them (`normalize`); they are normalised again afterwards, which undoes any gain. A clip's changes depend on
    seed, epoch and its index alone.
    """

    def __init__(
        self, features: Features, config: AugmentConfig, seed: int, *, normalize: bool = False
    ) -> None:
        self._features, self._config, self._seed, self._normalize = features, config, seed, normalize
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, index: int) -> Float[np.ndarray, " samples"]:
        rng = np.random.default_rng([self._seed, self.epoch, index])
        changed = augmented(np.array(self._features[index], np.float32), self._config, rng)
        return normalized(changed) if self._normalize else changed

    def expect(self, indices: Int[np.ndarray, " clips"] | Sequence[int]) -> None:
        """Begin to load the waveforms of these clips, if loading them takes time."""
        if isinstance(self._features, FetchedFeatures):
            self._features.expect(indices)


def _speed(
    waveform: Float[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float[np.ndarray, " changed"]:
    from librosa.effects import time_stretch

    low, high = np.log(config.speed)
    rate = float(np.exp(rng.uniform(low, high)))
    rate = min(rate, max(1.0, len(waveform) / MIN_SAMPLES))
    frame = STFT if len(waveform) >= STFT["n_fft"] else {"n_fft": 256, "hop_length": 64}
    return time_stretch(waveform, rate=rate, **frame)


def _shift(
    waveform: Float[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    most = config.shift_fraction * len(waveform)
    return np.roll(waveform, round(rng.uniform(-most, most)))


def _time_mask(
    waveform: Float[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    width = 1 + int(rng.uniform(0, config.mask_fraction) * (len(waveform) - 1))
    start = rng.integers(len(waveform) - width + 1)
    # Outside of the silent stretch the level follows a line.
    fade = max(1, min(int(FADE_S * SAMPLE_RATE), len(waveform) // 8))
    away = np.maximum(start - np.arange(len(waveform)), np.arange(len(waveform)) - (start + width - 1))
    return waveform * np.clip(away / fade, 0, 1).astype(np.float32)


def _frequency_mask(
    waveform: Float[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    import librosa

    top = float(librosa.hz_to_mel(SAMPLE_RATE / 2))
    width = rng.uniform(0, config.mask_fraction) * top
    start = rng.uniform(0, top - width)
    low_hz, high_hz = librosa.mel_to_hz([start, start + width])
    spectrum = np.fft.rfft(waveform)
    hz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    spectrum[(hz >= low_hz) & (hz < high_hz)] = 0
    return np.fft.irfft(spectrum, len(waveform))


def _noise(
    waveform: Float[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    power = float(np.mean(waveform.astype(np.float64) ** 2))
    below = 10 ** (-rng.uniform(*config.snr_db) / 20)
    return waveform + rng.standard_normal(len(waveform)) * (below * np.sqrt(power))


def _gain(
    waveform: Float[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    return waveform * 10 ** (rng.uniform(*config.gain_db) / 20)
