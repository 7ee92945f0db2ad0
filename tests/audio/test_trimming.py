"""Trimming and cropping of clips."""

import librosa
import numpy as np
import pytest

from tests.made.sounds import encode, noise, sine
from w2v2.audio.decoding import AudioError, load_waveform, trim
from w2v2.config.data import AudioConfig

PLAIN = AudioConfig()


def padded(seconds_before: float, seconds_after: float, quiet: float = 0.0) -> np.ndarray:
    before, after = (quiet * sine(s, hz=500.0) for s in (seconds_before, seconds_after))
    return np.concatenate([before, sine(1.0, hz=500.0), after])


def test_trim_cuts_the_ends_only() -> None:
    loud = sine(1.0, hz=500.0)
    np.testing.assert_array_equal(trim(padded(0.5, 0.3), trim_db=30.0), loud)
    # 40 dB down: cut at 30, kept at 50.
    assert len(trim(padded(0.5, 0.3, quiet=0.01), trim_db=30.0)) == 16_000
    assert len(trim(padded(0.5, 0.3, quiet=0.01), trim_db=50.0)) == 28_800
    gap = np.concatenate([loud, np.zeros(8_000, np.float32), loud])
    np.testing.assert_array_equal(trim(gap, trim_db=30.0), gap)


def test_trim_agrees_with_librosa_to_a_frame() -> None:
    envelope = np.interp(
        np.arange(32_000), [0, 9_000, 12_000, 20_000, 27_000, 32_000], [1e-4, 1e-4, 1, 1, 1e-4, 1e-4]
    )
    waveform = (noise(32_000) * envelope).astype(np.float32)
    _, (first, last) = librosa.effects.trim(waveform, top_db=30.0, frame_length=320, hop_length=160)
    ours = trim(waveform, trim_db=30.0)
    start = int(np.flatnonzero(waveform == ours[0])[0])
    assert abs(start - first) <= 320 and abs(start + len(ours) - last) <= 320


def test_trim_does_not_depend_on_level_and_is_idempotent() -> None:
    waveform = np.concatenate([noise(3_001) * 1e-3, noise(8_009), noise(2_003) * 1e-3]).astype(np.float32)
    once = trim(waveform, trim_db=35.0)
    np.testing.assert_array_equal(trim(waveform * np.float32(0.25), trim_db=35.0), once * np.float32(0.25))
    np.testing.assert_array_equal(trim(once, trim_db=35.0), once)
    assert len(trim(np.zeros(0, np.float32), trim_db=35.0)) == 0
    assert len(trim(np.zeros(777, np.float32), trim_db=35.0)) == 777


def test_load_trims_then_crops() -> None:
    data = encode(padded(0.5, 0.3))
    whole = sine(1.0, hz=500.0)
    np.testing.assert_array_equal(load_waveform(data, AudioConfig(trim_db=30.0)), whole)
    np.testing.assert_array_equal(load_waveform(data, AudioConfig(trim_db=30.0, crop_s=0.25)), whole[:4_000])
    with pytest.raises(AudioError, match="silent: "):
        load_waveform(data, AudioConfig(crop_s=0.25))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_crop_is_the_start_of_the_whole(rate: int) -> None:
    data = encode(noise(3 * rate), rate)
    cropped = load_waveform(data, AudioConfig(crop_s=1.5))
    np.testing.assert_allclose(cropped, load_waveform(data, PLAIN)[:24_000], atol=1e-4)
    assert len(load_waveform(data, AudioConfig(crop_s=10.0))) == 48_000


def test_crop_saves_a_clip_that_is_too_long() -> None:
    data = encode(noise(16_000 * 70), fmt="FLAC", subtype="PCM_16")
    assert len(load_waveform(data, AudioConfig(crop_s=2.0))) == 32_000
    with pytest.raises(AudioError, match=r"too long: 65 s > audio\.max_s 60"):
        load_waveform(data, AudioConfig(crop_s=65.0))
    quiet_end = encode(np.concatenate([noise(16_000), np.zeros(16_000 * 70)]), fmt="FLAC", subtype="PCM_16")
    assert len(load_waveform(quiet_end, AudioConfig(trim_db=40.0))) == 16_000
