"""Waveforms as arrays: read and checked, digest, normalisation, windows."""

import io

import numpy as np
import pytest
import soundfile
from transformers import Wav2Vec2FeatureExtractor

from w2v2.audio.decoding import AudioError, load_waveform
from w2v2.audio.waveforms import normalized, read_clip, waveform_digest, windows
from w2v2.config.data import AudioConfig
from w2v2.storage.files import StorageError

AUDIO = AudioConfig(min_s=0.05)


def encode(waveform: np.ndarray, fmt: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, (waveform * 32_767).astype(np.int16), 16_000, format=fmt, subtype="PCM_16")
    return buffer.getvalue()


def noise(num_samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(num_samples)).astype(np.float32)


def test_a_segment_is_what_the_decoder_gives():
    body = encode(noise(16_000), "WAV")
    read = read_clip(body, AUDIO, start_s=0.25, end_s=0.75, min_samples=8_000).waveform
    np.testing.assert_array_equal(read, load_waveform(body, AUDIO, start_s=0.25, end_s=0.75))


def test_what_is_shorter_than_a_frame_and_what_was_not_read_raise():
    body = encode(noise(1_600), "WAV")
    assert len(read_clip(body, AUDIO, min_samples=1_600).waveform) == 1_600
    with pytest.raises(AudioError, match=r"^too short: 0\.100 s < 0\.125 s, one frame of the encoder$"):
        read_clip(body, AUDIO, min_samples=2_000)
    with pytest.raises(StorageError, match=r"^there is no a\.wav$"):
        read_clip(StorageError("there is no a.wav"), AUDIO)


def test_the_digest_is_that_of_the_samples():
    wav, flac = (read_clip(encode(noise(4_000), fmt), AUDIO).waveform for fmt in ("WAV", "FLAC"))
    changed = wav.copy()
    changed[-1] = np.nextafter(changed[-1], np.float32(1))
    assert waveform_digest(wav) == waveform_digest(flac) != waveform_digest(changed)
    assert len(waveform_digest(wav)) == 32


def test_normalisation_is_that_of_transformers():
    waveform = 3 + 0.2 * noise(5_000)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=True)
    expected = extractor(waveform.astype(np.float64), sampling_rate=16_000)["input_values"][0]
    np.testing.assert_allclose(normalized(waveform), expected, atol=1e-5)


def test_windows_cover_the_clip_and_only_the_last_is_short():
    assert windows(16_007, window_s=0, hop_s=0, min_samples=9) == [(0, 16_007)]
    assert windows(16_000, window_s=0.25, hop_s=0, min_samples=9) == [
        (a, a + 4_000) for a in range(0, 16_000, 4_000)
    ]
    assert windows(11_000, window_s=0.5, hop_s=0.25, min_samples=9) == [(0, 8_000), (4_000, 11_000)]
    assert windows(8_000, window_s=0.5, hop_s=0.25, min_samples=9) == [(0, 8_000)]
    assert windows(100, window_s=0.5, hop_s=0.25, min_samples=900) == [(0, 100)]
    for num in (7_993, 8_009, 12_007, 12_011, 35_001):
        spans = windows(num, window_s=0.5, hop_s=0.2, min_samples=1)
        assert spans[-1][1] == num and all(last < num for _, last in spans[:-1])
        assert all(last - first == 8_000 for first, last in spans[:-1])
        kept = windows(num, window_s=0.5, hop_s=0.2, min_samples=6_000)
        assert kept == [s for s in spans if s[1] - s[0] >= 6_000]
