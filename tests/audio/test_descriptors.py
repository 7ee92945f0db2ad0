"""Hand-made features against equations, torchaudio, and waveforms whose features are known."""

import importlib.util

import numpy as np
import pytest
import torch
import torchaudio

from w2v2.audio.decoding import SAMPLE_RATE, AudioError
from w2v2.audio.descriptors import describe, names
from w2v2.errors import UserError

KINDS = ("mfcc", "chroma", "spectral", "pitch", "energy")


def tone(*hz: float, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    time_s = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * sum(np.sin(2 * np.pi * f * time_s) for f in hz)).astype(np.float32)


def voice(f0_hz: float, *, seconds: float = 1.0) -> np.ndarray:
    return tone(*(f0_hz * k for k in range(1, 12)), seconds=seconds, level=0.05)


def noise(num_samples: int, *, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def named(waveform: np.ndarray, *kinds) -> dict[str, float]:
    return dict(zip(names(kinds), describe(waveform, kinds).tolist(), strict=True))


def test_every_number_has_a_name_of_its_own():
    values = names(KINDS)
    assert len(values) == len(set(values)) == len(describe(noise(4001), KINDS)) == 80 + 24 + 20 + 4 + 4
    assert names(("energy", "pitch")) == names(("energy",)) + names(("pitch",))


def test_kinds_are_concatenated_in_the_order_asked_for():
    waveform = noise(5003)
    both = np.concatenate([describe(waveform, ("energy",)), describe(waveform, ("mfcc",))])
    assert np.array_equal(describe(waveform, ("energy", "mfcc")), both)
    assert both.dtype == np.float32


def test_mfcc_are_those_of_torchaudio():
    waveform = noise(16_000) * np.linspace(0.1, 1, 16_000, dtype=np.float32)
    settings = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "pad_mode": "constant"}
    transform = torchaudio.transforms.MFCC(
        SAMPLE_RATE, n_mfcc=20, melkwargs=settings | {"norm": "slaney", "mel_scale": "slaney"}
    )
    coefficients = transform(torch.from_numpy(waveform)).numpy()
    values = named(waveform, "mfcc")
    for i, row in enumerate(coefficients):
        assert values[f"mfcc_{i:02d}_mean"] == pytest.approx(row.mean(), abs=0.02)
        assert values[f"mfcc_{i:02d}_std"] == pytest.approx(row.std(), abs=0.02)


def test_pitch_is_that_of_the_voice_in_semitones():
    values = named(voice(110.0), "pitch")
    assert values["f0_mean_st"] == pytest.approx(24, abs=0.1)  # two octaves over 27.5 Hz
    assert values["f0_std_st"] < 0.2 and values["voiced_fraction"] > 0.95
    glide = np.concatenate([voice(110.0), voice(220.0)])
    assert named(glide, "pitch")["f0_range_st"] == pytest.approx(12, abs=0.2)
    assert named(glide, "pitch")["f0_mean_st"] == pytest.approx(30, abs=0.3)


def test_pauses_and_noise_are_not_voiced():
    half = np.concatenate([voice(150.0), np.zeros(SAMPLE_RATE, np.float32)])
    assert named(half, "pitch")["voiced_fraction"] == pytest.approx(0.5, abs=0.03)
    assert named(noise(16_000), "pitch")["voiced_fraction"] < 0.05
    constant = np.full(8000, 0.4, np.float32)
    assert list(named(constant, "pitch").values()) == [0, 0, 0, 0]


def test_energy_and_zero_crossings_of_a_sine():
    values = named(tone(1000.0, seconds=3.0), "energy")
    assert values["rms_db_mean"] == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.1)
    assert values["zero_crossings_mean"] == pytest.approx(2 * 1000 / SAMPLE_RATE, rel=0.02)


def test_spectrum_of_a_sine_and_of_noise():
    sine, white = named(tone(1000.0), "spectral"), named(noise(32_000), "spectral")
    assert sine["centroid_hz_mean"] == pytest.approx(1000, abs=30)
    assert sine["rolloff_hz_mean"] == pytest.approx(1000, abs=40)
    assert white["centroid_hz_mean"] == pytest.approx(4000, abs=100)
    assert white["rolloff_hz_mean"] == pytest.approx(0.85 * 8000, abs=150)
    assert sine["flatness_mean"] < 0.01 < 0.4 < white["flatness_mean"]
    assert sine["bandwidth_hz_mean"] < 0.2 * white["bandwidth_hz_mean"]


def test_chroma_shows_the_semitone_in_every_octave():
    for hz in (220.0, 440.0, 880.0):
        values = named(tone(hz), "chroma")
        assert max(values, key=lambda name: values[name] * name.endswith("mean")) == "chroma_a_mean"


def test_a_louder_clip_differs_in_level_alone():
    waveform = voice(140.0) + noise(16_000)
    soft, loud = named(waveform, *KINDS), named(2 * waveform, *KINDS)
    assert loud["rms_db_mean"] - soft["rms_db_mean"] == pytest.approx(20 * np.log10(2), abs=1e-3)
    same = [n for n in soft if n not in ("rms_db_mean", "mfcc_00_mean")]
    np.testing.assert_allclose([loud[n] for n in same], [soft[n] for n in same], rtol=2e-3, atol=2e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "waveform",
    [
        noise(400),
        noise(1600),
        np.full(1600, 0.5, np.float32),
        np.zeros(2003, np.float32),
        (np.arange(1601) == 7).astype(np.float32) * 2e-4,
        np.sign(noise(1999)),
    ],
)
def test_short_constant_and_nearly_silent_clips_are_finite(waveform):
    assert np.isfinite(describe(waveform, KINDS)).all()


def test_features_depend_on_the_clip_alone():
    waveform = noise(3001)
    first = describe(waveform, KINDS)
    describe(voice(300.0), KINDS)
    assert np.array_equal(describe(waveform.copy(), KINDS), first)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_is_reported(kind):
    with pytest.raises(AudioError, match=r"^not finite: powers of samples as large as 3\.\d+e\+29$"):
        describe(noise(1600) * np.float32(1e30), (kind,))
    with pytest.raises(AudioError, match=r"^not finite: powers of samples as large as nan$"):
        describe(noise(1600) * np.float32(np.nan), (kind,))
    assert np.isfinite(describe(noise(1600) * np.float32(1e6), (kind,))).all()


@pytest.mark.skipif(importlib.util.find_spec("opensmile") is not None, reason="opensmile is installed")
def test_egemaps_without_opensmile_says_what_to_install():
    for act in (lambda: names(("mfcc", "egemaps")), lambda: describe(noise(1600), ("egemaps",))):
        with pytest.raises(
            UserError, match=r"egemaps need opensmile on every machine: pip install opensmile"
        ):
            act()


def test_egemaps_are_those_of_opensmile():
    opensmile = pytest.importorskip("opensmile")
    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )
    waveform = voice(180.0)
    expected = smile.process_signal(waveform, SAMPLE_RATE)
    assert names(("egemaps",)) == list(expected.columns) and len(expected.columns) == 88
    assert np.array_equal(describe(waveform, ("egemaps",)), expected.to_numpy()[0].astype(np.float32))
    with pytest.raises(AudioError, match=r"^not finite: \w+.* and 87 other hand-made features$"):
        describe(noise(400), ("egemaps",))
