"""Resampling against an analytic sine."""

from typing import get_args, get_type_hints

import librosa
import numpy as np
import pytest
import soxr

from tests.made.sounds import encode, noise, sine, tone_db
from w2v2.audio.decoding import SAMPLE_RATE, load_waveform, resample
from w2v2.config.data import AudioConfig

PLAIN = AudioConfig()
RESAMPLERS = get_args(get_type_hints(AudioConfig)["resampler"])


@pytest.mark.parametrize(("resampler", "wanted_db"), [("soxr", 90), ("librosa", 90), ("torchaudio", 40)])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampled_sine_is_the_sine_at_16_khz(resampler, wanted_db: float, rate: int) -> None:
    got = resample(sine(1.0, rate, hz=997.0), rate, resampler)
    assert got.dtype == np.float32 and len(got) == SAMPLE_RATE
    middle = slice(2_000, 14_000)
    assert tone_db(sine(1.0, hz=997.0)[middle], got[middle]) > wanted_db


def test_soxr_is_the_high_quality_preset_and_the_default() -> None:
    values = noise(48_000)
    wanted = soxr.resample(values, 48_000, SAMPLE_RATE, quality="HQ")
    np.testing.assert_array_equal(load_waveform(encode(values, 48_000), PLAIN), wanted)
    wanted = librosa.resample(values, orig_sr=48_000, target_sr=SAMPLE_RATE)
    got = load_waveform(encode(values, 48_000), AudioConfig(resampler="librosa"))
    np.testing.assert_array_equal(got, wanted)


def test_what_is_above_8_khz_does_not_fold_back() -> None:
    high = sine(1.0, 48_000, hz=11_000.0)
    assert np.abs(resample(high, 48_000, "soxr")[2_000:14_000]).max() < 1e-5
    assert np.abs(resample(high, 48_000, "torchaudio")[2_000:14_000]).max() < 0.01


@pytest.mark.parametrize("resampler", RESAMPLERS)
def test_resampling_is_linear_and_skips_16_khz(resampler) -> None:
    one, two = noise(9_001, seed=1), noise(9_001, seed=2)
    np.testing.assert_allclose(
        resample(one + 2 * two, 44_100, resampler),
        resample(one, 44_100, resampler) + 2 * resample(two, 44_100, resampler),
        atol=1e-5,
    )
    assert resample(one, SAMPLE_RATE, resampler) is one
