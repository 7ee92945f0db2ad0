"""Recording quality of a clip, measured on its samples: level, signal-to-noise ratio, bandwidth, silence and clipping.

These measures describe the room, the microphone and the channel, not the words. Frames of 20 ms, decibels relative to
full scale (a constant 1 has 0 dB).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

FRAME_S = 0.02
MIN_POWER = 1e-10
"""-100 dB, about the noise of rounding to 16 bits: a frame of zeros counts as this."""
SILENCE_DB = 25.0
"""A frame is silent if it is more than this below the loudest frame: the default of Praat's "To TextGrid (silences)"."""
MIN_CLIPPED_PEAK = 0.1
MIN_CLIPPED_RUN = 3

NARROWBAND_HZ = 4_250.0
"""A clip whose spectrum ends here or below has no more than a sampling rate of 8 kHz can hold; telephones pass 300 to
3400 Hz."""
WIDEBAND_HZ = 7_000.0
"""A clip whose spectrum ends here or above is wideband: the upper edge of wideband telephony (ITU-T G.722). Above it,
the measured edge also depends on loudness."""
BAND_HZ = 250
LEAST_EDGE_HZ = 2_000
"""No speech channel ends below this, but the energy of a vowel may."""
CLIFF_DB = 20.0
"""A channel's edge falls by at least so much within three bands; the spectrum of speech itself is smoother."""
EDGE_BELOW_PEAK_DB = 50.0
"""Above a channel's edge every band is quieter than this, relative to the strongest band; fricatives are louder."""
_NUM_BELOW, _NUM_ACROSS = 4, 2
_BINS_PER_BAND = 8
_MAX_FRAMES = 200


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The recording quality of one clip."""

    level_db: float
    """Active level: mean power of the frames that are not silent (cf. ITU-T P.56)."""
    snr_db: float
    """Signal-to-noise ratio: the 95th percentile of the frames' power over the 5th, less 1, as in NIST's STNR. It is
    some dB above the ratio of means, and too low for a clip without any pause."""
    bandwidth_hz: float
    """Upper edge of the channel, in steps of 250 Hz; half the sampling rate where there is none below it."""
    silence_fraction: float
    """Share of the frames that are more than 25 dB below the loudest, as in Praat; in louder noise no pause is silent."""
    clipping_fraction: float
    """Share of the samples at a flat top or bottom; see clipping_fraction."""


def quality_of(waveform: Float[np.ndarray, " samples"], rate_hz: int, *, clipping_fraction: float) -> Quality:
    """The quality of a mono waveform; clipping_fraction is measured before, on the file's own samples, without any resampling."""
    power = frame_power(waveform, rate_hz)
    active = power >= power.max() * 10 ** (-SILENCE_DB / 10)
    quiet, loud = np.sort(power)[[_rank(len(power), percent) for percent in (5, 95)]]
    return Quality(
        level_db=float(10 * np.log10(power[active].mean())),
        snr_db=float(10 * np.log10(max(loud / quiet - 1, 0.01))),
        bandwidth_hz=bandwidth_hz(waveform, rate_hz),
        silence_fraction=float(1 - active.mean()),
        clipping_fraction=clipping_fraction,
    )


def frame_power(waveform: Float[np.ndarray, " samples"], rate_hz: int) -> Float[np.ndarray, " frames"]:
    """Variance of each whole frame of 20 ms, at least MIN_POWER; a shorter clip is one frame."""
    size = min(round(FRAME_S * rate_hz), len(waveform))
    num_frames = len(waveform) // size
    frames = waveform[: num_frames * size].reshape(num_frames, size)
    centred = frames - frames.mean(axis=1, keepdims=True)
    return np.maximum(np.einsum("fs,fs->f", centred, centred) / size, MIN_POWER)


def _rank(num: int, percent: float) -> int:
    """The place of a percentile among so many sorted values, the nearest; np.percentile takes many times as long."""
    return round(percent / 100 * (num - 1))


def clipping_fraction(samples: Float[np.ndarray, " samples"]) -> float:
    """Share of the samples in runs of three or more at the very maximum or minimum, as a converter out of range leaves them.

    They are found after the level was changed, too, but not after resampling, a lossy codec or a mixture of channels
    that clip at different times. 0 for a file whose peak is below 0.1: there 16 bits are coarse enough for such runs.
    """
    num_clipped = 0
    for extreme in (samples.min(initial=0.0), samples.max(initial=0.0)):
        if abs(extreme) < MIN_CLIPPED_PEAK:
            continue
        places = np.flatnonzero(samples == extreme)
        starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
        runs = np.diff(starts, append=len(places))
        num_clipped += int(runs[runs >= MIN_CLIPPED_RUN].sum())
    return num_clipped / max(len(samples), 1)


def bandwidth_hz(waveform: Float[np.ndarray, " samples"], rate_hz: int) -> float:
    """The upper edge of the channel: where the spectrum falls off a cliff and nothing louder follows.

    In bands of 250 Hz, of each the 95th percentile over frames, which keeps rare fricatives. The edge is the steepest
    place at which all bands further up, but for two of transition, are 20 dB below the mean of the four beneath it and
    50 dB below the strongest. So it separates telephone speech that was resampled to 16 kHz from soft or dull voices, whose
    spectrum declines without an edge. Noise that was added after the telephone hides it.
    """
    level = band_levels_db(waveform, rate_hz)
    edges = np.arange(LEAST_EDGE_HZ // BAND_HZ, len(level) - _NUM_ACROSS)
    below = np.convolve(level, np.full(_NUM_BELOW, 1 / _NUM_BELOW), "valid")[edges - _NUM_BELOW]
    above = np.maximum.accumulate(level[::-1])[::-1][edges + _NUM_ACROSS]
    is_edge = (below - above >= CLIFF_DB) & (level.max() - above >= EDGE_BELOW_PEAK_DB)
    if not is_edge.any():
        return rate_hz / 2
    return float(BAND_HZ * edges[np.argmax(np.where(is_edge, below - above, -np.inf))])


def band_levels_db(waveform: Float[np.ndarray, " samples"], rate_hz: int) -> Float[np.ndarray, " bands"]:
    """The 95th percentile over frames of the power in each band of 250 Hz, in dB; of at most 200 frames, evenly spaced."""
    from scipy.fft import rfft  # NumPy's takes six times as long; imported here as it takes a while itself

    size = _BINS_PER_BAND * rate_hz // BAND_HZ
    if len(waveform) < size:
        waveform = np.pad(waveform, (0, size - len(waveform)))
    num_frames = len(waveform) // size
    frames = waveform[: num_frames * size].reshape(num_frames, size)
    if num_frames > _MAX_FRAMES:
        frames = frames[np.linspace(0, num_frames - 1, _MAX_FRAMES).astype(int)]
    window, of_band = _window_and_bands(size)
    spectrum = rfft(frames * window, axis=1)[:, :-1]
    power = (spectrum.real**2 + spectrum.imag**2) @ of_band
    return 10 * np.log10(np.sort(power, axis=0)[_rank(len(power), 95)] + 1e-12)


@cache
def _window_and_bands(
    size: int,
) -> tuple[Float[np.ndarray, " size"], Float[np.ndarray, "bins bands"]]:
    """Hann's window, and the matrix that adds up the bins of each band."""
    bands = np.repeat(np.eye(size // 2 // _BINS_PER_BAND, dtype=np.float32), _BINS_PER_BAND, axis=0)
    return np.hanning(size).astype(np.float32), bands
