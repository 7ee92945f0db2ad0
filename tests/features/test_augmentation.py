"""Augmentation: what each change does to a waveform, and that a seed, an epoch and a clip decide it."""

from collections.abc import Iterable

import numpy as np
import pytest
from scipy import signal

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.model import AugmentConfig
from w2v2.features.augmentation import MIN_SAMPLES, AugmentedFeatures, augmented
from w2v2.features.batches import ClipSet, Features, PerEpochFeatures

KINDS = ("noise", "gain", "speed", "shift", "time_mask", "frequency_mask")


def config(*kinds: str, **changes) -> AugmentConfig:
    return AugmentConfig(kinds=kinds, **({"probability": 1.0} | changes))


def voice(num_samples: int = 16_111, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time_s = np.arange(num_samples) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * 200 * k * time_s) / k for k in range(1, 30))
    return (0.1 * tone + 0.02 * rng.standard_normal(num_samples)).astype(np.float32)


def changed(waveform: np.ndarray, used: AugmentConfig, seed: int = 1) -> np.ndarray:
    return augmented(waveform, used, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_samples", [400, 1601, 16_111])
def test_every_change_is_finite_float32_and_changes_something(kind, num_samples):
    before = voice(num_samples)
    kept = before.copy()
    after = changed(before, config(kind))
    assert after.dtype == np.float32 and np.isfinite(after).all()
    assert after.shape != before.shape or np.abs(after - before).max() > 0
    assert np.array_equal(before, kept)
    if kind != "speed":
        assert after.shape == before.shape


def test_the_same_generator_gives_the_same_samples_whatever_the_global_one_is():
    used = config(*KINDS, probability=0.7)
    np.random.seed(1)
    first = [changed(voice(), used, seed) for seed in range(6)]
    np.random.seed(2)
    again = [changed(voice(), used, seed) for seed in range(6)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({a.tobytes() for a in first}) == 6


def test_the_order_of_kinds_does_not_matter():
    assert np.array_equal(changed(voice(), config(*KINDS)), changed(voice(), config(*KINDS[::-1])))


def test_probability_is_how_often_a_change_is_made():
    rng = np.random.default_rng(3)
    short, used = voice(400), config("gain", probability=0.3)
    made = [not np.array_equal(augmented(short, used, rng), short) for _ in range(2000)]
    assert np.mean(made) == pytest.approx(0.3, abs=0.04)


def test_noise_has_the_ratio_to_the_clip_that_is_asked_for_and_is_white():
    before = voice(64_000)
    noise = changed(before, config("noise", snr_db=(12.0, 12.0))) - before
    ratio_db = 10 * np.log10(np.mean(before**2) / np.mean(noise**2))
    assert ratio_db == pytest.approx(12, abs=0.2)
    _, power = signal.welch(noise, nperseg=64)
    assert power[1:-1].max() / power[1:-1].min() < 1.5


def test_gain_is_within_its_range_in_db():
    before = voice()
    gains = []
    for seed in range(50):
        after = changed(before, config("gain", gain_db=(-6.0, 3.0)), seed)
        gains.append(20 * np.log10(after[5] / before[5]))
        np.testing.assert_allclose(after, before * 10 ** (gains[-1] / 20), rtol=1e-5)
    assert -6 <= min(gains) < -4 and 1 < max(gains) <= 3


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_changes_length_and_not_pitch(factor):
    after = changed(voice(32_000), config("speed", speed=(factor, factor)))
    assert len(after) == round(32_000 / factor)
    hz = np.fft.rfftfreq(len(after), 1 / SAMPLE_RATE)
    loudest_hz = hz[np.abs(np.fft.rfft(after)).argmax()]
    assert loudest_hz == pytest.approx(200, abs=2)


def test_a_short_clip_is_not_sped_up_below_one_frame():
    assert len(changed(voice(500), config("speed", speed=(2.0, 2.0)))) == MIN_SAMPLES
    assert len(changed(voice(400), config("speed", speed=(2.0, 2.0)))) == MIN_SAMPLES


def test_shift_rotates_by_no_more_than_its_part():
    before = voice(1000)
    moved = set()
    for seed in range(40):
        after = changed(before, config("shift", shift_fraction=0.1), seed)
        moved |= {by for by in range(-500, 500) if np.array_equal(np.roll(before, by), after)}
    assert max(map(abs, moved)) <= 100 and min(moved) < -50 and max(moved) > 50


def test_time_mask_silences_one_stretch_and_fades_into_it():
    before = np.ones(8000, np.float32)
    widths = []
    for seed in range(40):
        after = changed(before, config("time_mask", mask_fraction=0.2), seed)
        silent = np.flatnonzero(after == 0)
        widths.append(len(silent))
        assert silent[-1] - silent[0] + 1 == len(silent)
        assert np.abs(np.diff(after)).max() < 0.013  # 5 ms are 80 samples
    assert 1200 < max(widths) <= 1600


def test_frequency_mask_empties_one_band_and_leaves_the_others():
    before = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    for seed in range(10):
        after = changed(before, config("frequency_mask", mask_fraction=0.3), seed)
        ratio = np.abs(np.fft.rfft(after)) / np.abs(np.fft.rfft(before))
        empty = np.flatnonzero(ratio < 1e-3)
        assert empty[-1] - empty[0] + 1 == len(empty)
        assert np.allclose(np.delete(ratio, empty), 1, atol=1e-3)


class Remembered:
    """Waveforms that report what they were asked to expect."""

    def __init__(self, waveforms: list[np.ndarray]) -> None:
        self.waveforms, self.expected = waveforms, list[int]()

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.waveforms[index]

    def expect(self, indices: Iterable[int]) -> None:
        self.expected += indices


def test_features_differ_by_epoch_and_clip_and_not_by_order():
    waveforms = [voice(1601), voice(1601), voice(2003)]
    features = AugmentedFeatures(waveforms, config("noise", "speed"), 7)
    assert isinstance(features, Features) and isinstance(features, PerEpochFeatures) and len(features) == 3
    first = [features[index] for index in range(3)]
    assert first[0].shape != first[1].shape or not np.array_equal(first[0], first[1])
    features.epoch = 1
    second = features[0]
    assert second.shape != first[0].shape or not np.array_equal(second, first[0])
    features.epoch = 0
    for index in (2, 0, 1):
        assert np.array_equal(features[index], first[index])
    other = AugmentedFeatures(waveforms, config("noise", "speed"), 8)
    assert other[0].shape != first[0].shape or not np.array_equal(other[0], first[0])
    assert np.array_equal(waveforms[0], voice(1601))


def test_features_are_normalised_anew_where_the_encoder_wants_it():
    quiet = AugmentedFeatures([voice()], config("time_mask", "noise"), 0, normalize=True)[0]
    assert abs(quiet.mean()) < 1e-4 and quiet.std() == pytest.approx(1, abs=1e-3)
    assert AugmentedFeatures([voice()], config("noise"), 0)[0].std() < 0.5


def test_features_pass_on_what_is_to_be_expected():
    source = Remembered([voice(1601)])
    AugmentedFeatures(source, config("gain"), 0).expect([0])
    assert source.expected == [0]
    AugmentedFeatures(source.waveforms, config("gain"), 0).expect([0])


def test_a_batch_has_the_lengths_after_speed():
    waveforms = [voice(1601), voice(2003)]
    features = AugmentedFeatures(waveforms, config("speed", speed=(0.5, 0.5)), 0)
    clips = ClipSet(features=features, lengths=np.array([1601, 2003]), targets=np.array([0, 1]))
    padded, lengths = clips.select(np.array([0, 1]))
    assert lengths.tolist() == [3202, 4006] and padded.shape == (2, 4006)
