"""Hand-made features of a clip: MFCC, chroma, spectrum, pitch, energy, eGeMAPS, as one vector.

Frames are 25 ms every 10 ms (chroma 128 ms, pitch 64 ms, which low voices need). The vector has the mean and standard
deviation over the clip of each measure of a frame, the two functionals that nearly all published sets share (Eyben et
al., The Geneva Minimalistic Acoustic Parameter Set, 2016).
"""

import functools
import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from w2v2.audio.decoding import SAMPLE_RATE, AudioError
from w2v2.config.data import Descriptor
from w2v2.errors import UserError
from w2v2.versions import library_versions

if TYPE_CHECKING:
    import opensmile

DESCRIPTORS_VERSION = 1
"""Raised when the arithmetic changes, so that old entries of the cache are not read."""

HOP = SAMPLE_RATE // 100
FRAME = {"n_fft": 512, "win_length": 400, "hop_length": HOP}
NUM_MFCC, NUM_MELS = 20, 40
CHROMA_FFT = 2048
PITCH_FRAME = 1024
PITCH_HZ = (60.0, 500.0)
MIN_PERIODICITY = 0.6
"""A frame is voiced if its correlation with itself one period later is at least this."""
MAX_BELOW_LOUDEST_DB = 40.0
"""A frame is not voiced if it is quieter than the loudest one by more than this."""
MAX_PEAK = 1e6
"""Files of floats may hold anything; powers of larger samples overflow."""
MIN_RMS = 1e-5
"""The level of silence, -100 dB."""

Tracks = Mapping[str, Float[np.ndarray, " frames"]]
"""The measures of each frame, by name."""


def names(kinds: Sequence[Descriptor]) -> list[str]:
    """The name of each number that `describe` returns, in order.

    Raises UserError where egemaps is asked for and opensmile is not installed.
    """
    return [name for kind in kinds for name in _names(kind)]


def cache_key(kind: Descriptor) -> str:
    """The name of the cache folder for features of this kind; each version of their arithmetic has another one.

    Hashed by itself and not by config.digest.settings_digest, as caches of earlier versions have these names.
    """
    library = "opensmile" if kind == "egemaps" else "librosa"
    parts = (DESCRIPTORS_VERSION, kind, library, library_versions(library)[library])
    return f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def describe(
    waveform: Float[np.ndarray, " samples"], kinds: Sequence[Descriptor]
) -> Float[np.ndarray, " descriptors"]:
    """The hand-made features of a whole clip (16 kHz, 25 ms or more), kind after kind, float32 and finite.

    - mfcc: 20 coefficients of 40 mel bands, the zeroth included, and their change from frame to frame
    - chroma: the share of each of the 12 semitones, C first
    - spectral: centroid, bandwidth, 85 % roll-off (Hz), flatness, contrast of 6 octaves (dB)
    - pitch: the voiced share of all frames; mean, standard deviation and 5 to 95 % range of f0 in semitones
      over 27.5 Hz (YIN, de Cheveigne and Kawahara 2002; frames are voiced by their normalised correlation one
      period later, Talkin 1995). 0 where no frame is voiced.
    - energy: RMS level (dB of full scale), share of zero crossings
    - egemaps: the 88 functionals of eGeMAPSv02, by opensmile; short clips have none

    Depends on the samples alone. Raises AudioError (kind "not finite") where a value is undefined.
    """
    peak = float(np.abs(waveform).max())
    if not peak < MAX_PEAK:
        raise AudioError("not finite", f"powers of samples as large as {peak:g}")
    values = np.concatenate([_values(waveform, kind) for kind in kinds]).astype(np.float32)
    unknown = [name for name, value in zip(names(kinds), values, strict=True) if not np.isfinite(value)]
    if unknown:
        raise AudioError("not finite", f"{unknown[0]} and {len(unknown) - 1} other hand-made features")
    return values


@functools.cache
def _names(kind: Descriptor) -> list[str]:
    match kind:
        case "egemaps":
            return list(_smile().feature_names)
        case "pitch":
            return ["voiced_fraction", "f0_mean_st", "f0_std_st", "f0_range_st"]
        case _:
            # Taken from a described clip, so that names cannot differ from values.
            tracks = _tracks(np.zeros(PITCH_FRAME, np.float32), kind)
            return [f"{name}_{functional}" for name in tracks for functional in ("mean", "std")]


def _values(waveform: Float[np.ndarray, " samples"], kind: Descriptor) -> Float[np.ndarray, " descriptors"]:
    match kind:
        case "egemaps":
            return _egemaps(waveform)
        case "pitch":
            return _pitch(waveform)
        case _:
            tracks = _tracks(waveform, kind).values()
            return np.array([functional(track) for track in tracks for functional in (np.mean, np.std)])


def _tracks(waveform: Float[np.ndarray, " samples"], kind: Descriptor) -> Tracks:
    match kind:
        case "mfcc":
            return dict(_mfcc(waveform))
        case "chroma":
            return dict(_chroma(waveform))
        case "spectral":
            return dict(_spectral(waveform))
        case "energy":
            return dict(_energy(waveform))
        case _:
            raise AssertionError(kind)


def _mfcc(waveform: Float[np.ndarray, " samples"]) -> Iterator[tuple[str, Float[np.ndarray, " frames"]]]:
    import librosa

    mel = librosa.feature.melspectrogram(S=_power(waveform, **FRAME), sr=SAMPLE_RATE, n_mels=NUM_MELS)
    coefficients = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=NUM_MFCC)
    # The shortest clip has three frames.
    change = librosa.feature.delta(coefficients, width=3)
    for name, rows in (("mfcc", coefficients), ("mfcc_change", change)):
        yield from ((f"{name}_{i:02d}", row) for i, row in enumerate(rows))


def _chroma(waveform: Float[np.ndarray, " samples"]) -> Iterator[tuple[str, Float[np.ndarray, " frames"]]]:
    import librosa

    power = _power(waveform, n_fft=CHROMA_FFT, hop_length=HOP)
    # Speech has no tuning; to estimate one would only add noise.
    chroma = librosa.feature.chroma_stft(S=power, sr=SAMPLE_RATE, n_fft=CHROMA_FFT, tuning=0.0)
    names = ("c", "c_sharp", "d", "d_sharp", "e", "f", "f_sharp", "g", "g_sharp", "a", "a_sharp", "b")
    yield from ((f"chroma_{name}", row) for name, row in zip(names, chroma, strict=True))


def _spectral(waveform: Float[np.ndarray, " samples"]) -> Iterator[tuple[str, Float[np.ndarray, " frames"]]]:
    from librosa import feature

    magnitude = np.sqrt(_power(waveform, **FRAME))
    yield "centroid_hz", feature.spectral_centroid(S=magnitude, sr=SAMPLE_RATE)[0]
    yield "bandwidth_hz", feature.spectral_bandwidth(S=magnitude, sr=SAMPLE_RATE)[0]
    yield "rolloff_hz", feature.spectral_rolloff(S=magnitude, sr=SAMPLE_RATE, roll_percent=0.85)[0]
    yield "flatness", feature.spectral_flatness(S=magnitude)[0]
    contrast = feature.spectral_contrast(S=magnitude, sr=SAMPLE_RATE, fmin=200.0, n_bands=5)
    yield from ((f"contrast_{i}_db", row) for i, row in enumerate(contrast))


def _energy(waveform: Float[np.ndarray, " samples"]) -> Iterator[tuple[str, Float[np.ndarray, " frames"]]]:
    from librosa import feature

    rms = feature.rms(y=waveform, frame_length=400, hop_length=HOP)[0]
    yield "rms_db", 20 * np.log10(np.maximum(rms, MIN_RMS))
    yield "zero_crossings", feature.zero_crossing_rate(waveform, frame_length=400, hop_length=HOP)[0]


def _power(
    waveform: Float[np.ndarray, " samples"], *, n_fft: int, hop_length: int, win_length: int | None = None
) -> Float[np.ndarray, "bins frames"]:
    import librosa

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")  # a short clip is padded
        return np.abs(librosa.stft(waveform, n_fft=n_fft, hop_length=hop_length, win_length=win_length)) ** 2


def _pitch(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "4"]:
    import librosa

    low, high = PITCH_HZ
    waveform = waveform - waveform.mean()  # a constant offset would correlate with itself and count as voiced
    f0_hz = librosa.yin(
        waveform, fmin=low, fmax=high, sr=SAMPLE_RATE, frame_length=PITCH_FRAME, hop_length=HOP
    )
    voiced = _is_voiced(waveform, f0_hz)
    if not voiced.any():
        return np.zeros(4)
    semitones = 12 * np.log2(f0_hz[voiced] / 27.5)
    lowest, highest = np.percentile(semitones, (5, 95))
    return np.array([voiced.mean(), semitones.mean(), semitones.std(), highest - lowest])


def _is_voiced(
    waveform: Float[np.ndarray, " samples"], f0_hz: Float[np.ndarray, " frames"]
) -> Bool[np.ndarray, " frames"]:
    """Whether each frame is loud and correlates with itself one period later."""
    import librosa

    period = np.round(SAMPLE_RATE / f0_hz).astype(int)
    width = PITCH_FRAME // 2
    padded = np.pad(waveform, PITCH_FRAME // 2)
    frames = librosa.util.frame(padded, frame_length=PITCH_FRAME, hop_length=HOP).T
    now = frames[:, :width].astype(np.float64)
    later = np.take_along_axis(frames, period[:, None] + np.arange(width), axis=1).astype(np.float64)
    energies = (now**2).sum(1), (later**2).sum(1)
    correlation = (now * later).sum(1) / np.sqrt(energies[0] * energies[1] + width**2 * MIN_RMS**4)
    level = np.sqrt(np.minimum(*energies) / width)
    loud = level > max(MIN_RMS, level.max() * 10 ** (-MAX_BELOW_LOUDEST_DB / 20))
    return loud & (correlation > MIN_PERIODICITY)


def _egemaps(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "88"]:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Segment too short"
        )  # the values are NaN, which is an error of its own
        return _smile().process_signal(waveform, SAMPLE_RATE).to_numpy()[0]


@functools.lru_cache(maxsize=1)
def _smile() -> "opensmile.Smile":
    try:
        import opensmile
    except ImportError:
        raise UserError(
            "the hand-made features egemaps need opensmile on every machine: pip install opensmile, or choose among "
            "mfcc, chroma, spectral, pitch and energy"
        ) from None
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )
