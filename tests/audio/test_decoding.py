"""Decoding: every format against the waveform that was written."""

import struct

import numpy as np
import pytest

from tests.made.sounds import FORMATS, encode, noise, sine, tone_db
from w2v2.audio.decoding import SAMPLE_RATE, AudioError, load_waveform
from w2v2.config.data import AudioConfig

PLAIN = AudioConfig()


@pytest.mark.parametrize(("fmt", "subtype"), FORMATS)
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_every_format_gives_the_sine_back(fmt: str, subtype: str, rate: int) -> None:
    waveform = load_waveform(encode(sine(1.3, rate), rate, fmt, subtype), PLAIN)
    assert waveform.dtype == np.float32 and waveform.flags.c_contiguous
    assert len(waveform) == pytest.approx(1.3 * SAMPLE_RATE, abs=1152)
    middle = slice(4_000, 16_000)
    wanted_db = 20 if subtype in ("VORBIS", "MPEG_LAYER_III") else 60
    assert tone_db(sine(1.3)[middle], waveform[middle]) > wanted_db


def test_lossless_16_khz_is_bit_exact() -> None:
    values = (noise(16_001) * 32768).astype(np.int16)
    for fmt in ("WAV", "FLAC"):
        waveform = load_waveform(encode(values, fmt=fmt, subtype="PCM_16"), PLAIN)
        np.testing.assert_array_equal(waveform, values.astype(np.float32) / 32768)


def test_mono_is_the_mean_of_the_channels() -> None:
    values = noise(4_001, channels=5)
    np.testing.assert_allclose(load_waveform(encode(values), PLAIN), values.mean(axis=1), atol=1e-7)
    for k in (2, 7):
        same = np.repeat(values[:, :1], k, axis=1)
        np.testing.assert_allclose(load_waveform(encode(same), PLAIN), values[:, 0], atol=1e-7)


def test_opposite_channels_are_silent() -> None:
    one = sine(1.0)
    with pytest.raises(AudioError, match="silent: "):
        load_waveform(encode(np.stack([one, -one], axis=1)), PLAIN)


@pytest.mark.parametrize(("fmt", "subtype"), FORMATS)
def test_a_segment_is_a_slice_of_the_whole(fmt: str, subtype: str) -> None:
    data = encode(noise(48_000), fmt=fmt, subtype=subtype)
    whole = load_waveform(data, PLAIN)
    part = load_waveform(data, PLAIN, start_s=0.503, end_s=1.75)
    assert len(part) == 28_000 - 8_048
    np.testing.assert_allclose(part, whole[8_048:28_000], atol=1e-6)
    np.testing.assert_allclose(load_waveform(data, PLAIN, start_s=2.0), whole[32_000:], atol=1e-6)


def test_only_the_segment_counts_for_the_length() -> None:
    data = encode(np.tile(noise(16_000), 90), fmt="FLAC", subtype="PCM_16")
    with pytest.raises(AudioError, match=r"too long: 90 s > audio\.max_s 60"):
        load_waveform(data, PLAIN)
    assert len(load_waveform(data, PLAIN, start_s=80.0)) == 160_000


def test_big_endian_and_streamed_wav() -> None:
    values = sine(0.5)
    plain = load_waveform(encode(values, subtype="PCM_16"), PLAIN)
    big = encode(values, subtype="PCM_16", endian="BIG")
    assert big[:4] == b"RIFX"
    np.testing.assert_array_equal(load_waveform(big, PLAIN), plain)
    streamed = bytearray(encode(values, subtype="PCM_16"))
    at = streamed.index(b"data")
    streamed[at + 4 : at + 8] = streamed[4:8] = b"\xff\xff\xff\xff"
    np.testing.assert_array_equal(load_waveform(bytes(streamed), PLAIN), plain)


def test_chunks_before_and_after_the_data_are_skipped() -> None:
    data = encode(sine(0.5), subtype="PCM_16")
    at = data.index(b"data")
    extra = b"LIST" + struct.pack("<I", 5) + b"odd.." + b"\0"
    longer = data[:at] + extra + data[at:] + extra
    longer = longer[:4] + struct.pack("<I", len(longer) - 8) + longer[8:]
    np.testing.assert_array_equal(load_waveform(longer, PLAIN), load_waveform(data, PLAIN))
    with pytest.raises(AudioError, match=r"truncated: 100 of 16000 data bytes are missing"):
        load_waveform(longer[: -len(extra) - 100], PLAIN)
