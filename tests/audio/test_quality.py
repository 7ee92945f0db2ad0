"""Level, noise, bandwidth, silence and clipping: of sounds where they are known, and of speech through telephones."""

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from tests.audio.recordings import debian_recordings
from tests.made.sounds import encode
from w2v2.audio.audio_error import AudioError
from w2v2.audio.decoding import SAMPLE_RATE, Clip, load_clip
from w2v2.audio.quality import NARROWBAND_HZ, bandwidth_hz, clipping_fraction, quality_of
from w2v2.config.data import AudioConfig


def measured(waveform: np.ndarray):
    return quality_of(waveform.astype(np.float32), SAMPLE_RATE, clipping_fraction=0.0)


def bursts(level_db: float, *, noise_db: float, seed: int = 0) -> np.ndarray:
    """Ten seconds, every other half second noise of the first level over noise of the second."""
    rng = np.random.default_rng(seed)
    speech, noise = rng.normal(size=(2, 10 * SAMPLE_RATE))
    on = np.arange(len(speech)) // (SAMPLE_RATE // 2) % 2
    return on * speech * 10 ** (level_db / 20) + noise * 10 ** (noise_db / 20)


def test_level_and_silence_are_those_of_the_sounding_part():
    quality = measured(bursts(-20, noise_db=-70))
    assert quality.level_db == pytest.approx(-20, abs=0.1) and quality.silence_fraction == pytest.approx(0.5)
    whole = measured(0.5 * np.sin(np.arange(SAMPLE_RATE) * 0.3))
    assert whole.level_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.05)
    assert whole.silence_fraction == 0


@pytest.mark.parametrize("snr_db", [0, 10, 20, 30, 50])
def test_the_signal_to_noise_ratio_is_the_one_that_was_mixed(snr_db):
    measured_db = measured(bursts(-20, noise_db=-20 - snr_db)).snr_db
    assert measured_db == pytest.approx(snr_db, abs=2)
    assert measured(0.1 * bursts(-20, noise_db=-20 - snr_db)).snr_db == pytest.approx(measured_db, abs=1e-3)


def test_a_digital_pause_is_no_infinite_ratio_and_no_clip_is_too_short():
    paused = bursts(-20, noise_db=-300)
    assert measured(paused).snr_db == pytest.approx(80, abs=1)
    assert all(np.isfinite(value) for value in vars(measured(paused[:100])).values())


def test_the_share_of_clipped_samples_is_that_of_the_flat_tops():
    sine = np.sin(2 * np.pi * 100 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    clipped = np.clip(sine, -0.8, 0.8).astype(np.float32)
    assert clipping_fraction(clipped) == pytest.approx(np.mean(np.abs(sine) >= 0.8))
    assert clipping_fraction(0.3 * clipped) == pytest.approx(np.mean(np.abs(sine) >= 0.8))
    assert clipping_fraction(np.clip(sine, -1, 0.8).astype(np.float32)) == pytest.approx(np.mean(sine >= 0.8))
    rng = np.random.default_rng(0)
    noise = rng.normal(size=SAMPLE_RATE).astype(np.float32)
    assert clipping_fraction(noise) == 0 and clipping_fraction(np.zeros(0, np.float32)) == 0
    quiet = np.round(sine * 100) / 2**15  # flat tops by rounding alone
    assert clipping_fraction(quiet.astype(np.float32)) == 0


def test_clipping_is_measured_before_resampling_and_padding_is_not_part_of_a_recording():
    rng = np.random.default_rng(1)
    loud = np.clip(scipy.signal.lfilter([1], [1, -0.9], rng.normal(size=3 * 44_100)), -1, 1)
    clip = load_clip(encode(loud, 44_100, subtype="PCM_16"), AudioConfig())
    assert clip.quality.clipping_fraction == pytest.approx(np.mean(np.abs(loud) == 1), rel=0.2)
    padded = load_clip(encode(loud, 44_100, subtype="PCM_16"), AudioConfig(fixed_s=9.0))
    assert len(padded.waveform) == 9 * SAMPLE_RATE and padded.quality == clip.quality


# -- bandwidth


def _linear(narrow: np.ndarray) -> np.ndarray:
    return np.interp(np.arange(2 * len(narrow)) / 2, np.arange(len(narrow)), narrow)


def _mu_law(waveform: np.ndarray) -> np.ndarray:
    codes = np.round(127 * np.sign(waveform) * np.log1p(255 * np.abs(waveform)) / np.log(256))
    return np.sign(codes) * np.expm1(np.abs(codes) / 127 * np.log(256)) / 255


def _pcm(waveform: np.ndarray) -> np.ndarray:
    return np.round(np.clip(waveform, -1, 1) * 32767) / 32768


def telephoned(wide: np.ndarray) -> dict[str, np.ndarray]:
    """Speech at 16 kHz through channels of 8 kHz, resampled to 16 kHz by several programs' means and rounded to 16 bits."""
    narrow = soxr.resample(wide, 16_000, 8_000)
    band = scipy.signal.butter(6, (300, 3400), "bandpass", fs=8_000, output="sos")
    line = _mu_law(scipy.signal.sosfilt(band, narrow))
    ways = {
        "soxr": soxr.resample(narrow, 8_000, 16_000),
        "polyphase": scipy.signal.resample_poly(narrow, 2, 1),
        "line": soxr.resample(line, 8_000, 16_000),
        "quiet line": 0.1 * soxr.resample(line, 8_000, 16_000),
    }
    return {name: _pcm(waveform).astype(np.float32) for name, waveform in ways.items()}


@pytest.fixture(scope="module")
def wideband(corpus: Path) -> list[np.ndarray]:
    """Speech of the built-in corpus."""
    return [soundfile.read(path, dtype="float32")[0] for path in sorted(corpus.rglob("*.wav"))[::8]]


def test_wideband_speech_is_not_taken_for_telephone_speech(wideband: list[np.ndarray]) -> None:
    assert min(bandwidth_hz(waveform, SAMPLE_RATE) for waveform in wideband) > 7000
    quiet = [_pcm(0.05 * waveform).astype(np.float32) for waveform in wideband]
    assert min(bandwidth_hz(waveform, SAMPLE_RATE) for waveform in quiet) > 7000


def test_telephone_speech_is_detected_whatever_resampled_it(wideband: list[np.ndarray]) -> None:
    by_name: dict[str, list[float]] = {}
    for waveform in wideband:
        for name, narrow in telephoned(waveform).items():
            by_name.setdefault(name, []).append(bandwidth_hz(narrow, SAMPLE_RATE))
    for name, bandwidths in by_name.items():
        assert np.mean(np.array(bandwidths) <= NARROWBAND_HZ) >= 0.9, name
        assert min(bandwidths) >= 3000, name


def test_a_low_pass_and_a_file_at_the_rate_of_telephones_leave_their_edge(wideband: list[np.ndarray]) -> None:
    low_pass = scipy.signal.firwin(255, 5500, fs=SAMPLE_RATE)
    for waveform in wideband[:4]:
        dull = scipy.signal.lfilter(low_pass, 1, waveform).astype(np.float32)
        assert 5000 <= bandwidth_hz(_pcm(dull).astype(np.float32), SAMPLE_RATE) <= 6000
        body = encode(soxr.resample(waveform, 16_000, 8_000), 8_000, subtype="ULAW")
        assert load_clip(body, AudioConfig()).quality.bandwidth_hz <= NARROWBAND_HZ


def _clip_with_sound(path: Path) -> Clip | None:
    """The recording, or None for a pause, of which a set of prompts has some."""
    try:
        return load_clip(path.read_bytes(), AudioConfig(max_s=600))
    except AudioError as error:
        assert error.reject.kind == "silent"
        return None


@pytest.mark.slow
def test_real_prompts_of_telephones_are_detected_and_real_wideband_speech_is_not(tmp_path: Path) -> None:
    paths = debian_recordings(tmp_path)
    prompts = [path for path in paths if soundfile.info(path).duration > 1][::20]
    clips = [clip for path in prompts if (clip := _clip_with_sound(path)) is not None]
    assert len(clips) > 0.95 * len(prompts)
    narrow = [clip for clip in clips if clip.sample_rate == 8_000]
    share = np.mean([clip.quality.bandwidth_hz <= NARROWBAND_HZ for clip in narrow])
    assert len(narrow) > 50 and share > 0.95
    wide = [path for path in paths if soundfile.info(path).samplerate >= 44_100]
    bandwidths_hz = [
        load_clip(path.read_bytes(), AudioConfig(max_s=600)).quality.bandwidth_hz for path in wide
    ]
    assert len(bandwidths_hz) > 3 and np.mean(np.array(bandwidths_hz) > NARROWBAND_HZ) > 0.8
