"""Audio: every format against what was written, resampling against an analytic sine, every reject."""

import io
import math
import random
import struct
from typing import get_args, get_type_hints

import librosa
import numpy as np
import pytest
import soundfile
import soxr

from w2v2.audio.decoding import SAMPLE_RATE, AudioError, load_waveform, resample, trim
from w2v2.config.data import AudioConfig

PLAIN = AudioConfig()
FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]
FORMATS += [("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")]
RESAMPLERS = get_args(get_type_hints(AudioConfig)["resampler"])


def encode(
    values: np.ndarray, rate: int = SAMPLE_RATE, fmt: str = "WAV", subtype: str = "FLOAT", **options
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=fmt, subtype=subtype, **options)
    return file.getvalue()


def sine(seconds: float, rate: int = SAMPLE_RATE, hz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(num: int, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (num, channels)).astype(np.float32).squeeze()


def tone_db(wanted: np.ndarray, got: np.ndarray) -> float:
    """Signal to error in dB."""
    return 10 * math.log10(np.mean(wanted**2) / (np.mean((wanted - got) ** 2) + 1e-20))


# -- what is decoded


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


# -- resampling


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


# -- trim and crop


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


# -- rejects


def test_the_bounds_of_length_are_inside() -> None:
    for rate in (16_000, 44_100):
        assert len(load_waveform(encode(sine(0.1, rate), rate), PLAIN)) == 1_600
        assert len(load_waveform(encode(sine(60.0, rate), rate), PLAIN)) == 960_000


def test_six_hours_in_a_megabyte_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    minute = np.zeros(4_000 * 60, np.int16)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 4_000, 1, format="FLAC", subtype="PCM_16") as flac:
        for _ in range(360):
            flac.write(minute)
    assert len(file.getvalue()) < 2_000_000

    def read(*args: object, **kwargs: object) -> None:
        raise RuntimeError("decoded")

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    for audio, message in [
        (PLAIN, r"absurd header: 21600 s and 8\.64e\+07 values to decode"),
        (AudioConfig(trim_db=30.0), "absurd header: 21600 s"),
    ]:
        with pytest.raises(AudioError, match=message):
            load_waveform(file.getvalue(), audio)
    with pytest.raises(AudioError, match=r"too long: 100 s > audio\.max_s 60"):
        load_waveform(file.getvalue(), PLAIN, start_s=50.0, end_s=150.0)
    with pytest.raises(RuntimeError, match="decoded"):  # the patch is where decoding happens
        load_waveform(file.getvalue(), PLAIN, start_s=50.0, end_s=51.0)


def patched(data: bytes, at: int, fmt: str, value: int) -> bytes:
    return data[:at] + struct.pack(fmt, value) + data[at + struct.calcsize(fmt) :]


def cut(fmt: str, subtype: str, fraction: float) -> bytes:
    data = encode(noise(32_000), fmt=fmt, subtype=subtype)
    return data[: int(len(data) * fraction)]


WHOLE = encode(sine(1.0), subtype="PCM_16")


def without_first_page(subtype: str) -> bytes:
    whole = encode(sine(1.0), fmt="OGG", subtype=subtype)
    return whole[whole.index(b"OggS", 1) :]


REJECTS = {
    "no bytes": (b"", "empty: the file has 0 bytes"),
    "text": (b"clip_id,label\na,b\n", r"not audio: .+ \(wav, flac, .+ are read\)"),
    "noise": (random.Random(0).randbytes(5_003), r"not audio: .+ \(wav, flac, .+ are read\)"),
    "header cut": (WHOLE[:20], r"not audio: "),
    "riff but no wave": (b"RIFF\x10\0\0\0AVI LIST" + bytes(20), "not audio: "),
    "au": (encode(sine(1.0), fmt="AU", subtype="PCM_16"), "not audio: no format that is known"),
    "aiff cut": (encode(sine(1.0), fmt="AIFF", subtype="PCM_16")[:-7], "truncated: 7 of 32008 data bytes"),
    "wav cut": (WHOLE[:-1], "truncated: 1 of 32000 data bytes are missing"),
    "wav cut in half": (WHOLE[:16_022], "truncated: 16022 of 32000 data bytes are missing"),
    "float wav cut": (cut("WAV", "FLOAT", 0.5), "truncated: "),
    "flac cut": (cut("FLAC", "PCM_16", 0.6), "truncated: "),
    "ogg cut": (cut("OGG", "VORBIS", 0.6), "truncated: the last page is cut"),
    "ogg without its first page": (without_first_page("VORBIS"), "truncated: the first page is missing"),
    "opus cut": (cut("OGG", "OPUS", 0.6), "truncated: the last page is cut"),
    "mp3 cut": (
        cut("MP3", "MPEG_LAYER_III", 0.6),
        r"truncated: (\d+ of \d+ frames are missing|the last frame lacks \d+ bytes)",
    ),
    "65 channels": (encode(noise(3_001, channels=65), subtype="PCM_16"), "absurd header: 65 channels > 64"),
    "3999 Hz": (encode(sine(1.0), 3_999), r"absurd header: 3999 Hz outside \[4000, 384000\]"),
    "1 MHz": (encode(sine(1.0), 1_000_000), r"absurd header: 1000000 Hz outside"),
    "no samples": (encode(np.zeros(0)), r"too short: 0 s < audio\.min_s 0\.1"),
    "40 ms": (encode(sine(0.04)), r"too short: 0\.04 s < audio\.min_s 0\.1"),
    "61 s": (encode(noise(61 * 16_000), fmt="FLAC", subtype="PCM_16"), r"too long: 61 s > audio\.max_s 60"),
    "NaN": (encode(np.append(sine(1.0), np.nan)), "not finite: the file holds NaN or infinite samples"),
    "infinite": (encode(np.append(sine(1.0), -np.inf)), "not finite: "),
    "NaN in one channel": (encode(np.stack([sine(1.0), np.full(16_000, np.nan)], 1)), "not finite: "),
    "zeros": (encode(np.zeros(16_000)), "silent: the waveform stays within 0.0001 of its mean"),
    "constant": (encode(np.full(16_000, 0.5)), "silent: "),
    "very quiet": (encode(sine(1.0, amplitude=9e-5)), "silent: "),
}


@pytest.mark.parametrize("name", REJECTS)
def test_rejects(name: str) -> None:
    data, message = REJECTS[name]
    with pytest.raises(AudioError, match=f"^{message}"):
        load_waveform(data, PLAIN)


def test_what_is_just_good_enough_is_taken() -> None:
    assert len(load_waveform(encode(sine(1.0, amplitude=2e-4)), PLAIN)) == 16_000
    assert len(
        load_waveform(encode(noise(16_001, channels=64), 384_000, subtype="PCM_16"), AudioConfig(min_s=0.03))
    )
    assert len(load_waveform(encode(sine(1.0, 4_000), 4_000), PLAIN)) == 16_000
    assert len(load_waveform(encode(noise(32_000), fmt="OGG", subtype="OPUS"), PLAIN)) == 32_000


@pytest.mark.parametrize(
    ("start_s", "end_s"),
    [
        (-0.1, 0.5),
        (1.0, math.inf),
        (5.0, 6.0),
        (0.5, 0.5),
        (0.6, 0.2),
        (0.0, 1.2),
        (math.nan, 1.0),
        (0.0, math.nan),
    ],
)
def test_segments_outside_the_file(start_s: float, end_s: float) -> None:
    with pytest.raises(AudioError, match=r"segment outside the file: \S+ to \S+ s of a file of 1 s"):
        load_waveform(WHOLE, PLAIN, start_s=start_s, end_s=end_s)


def test_an_end_a_little_behind_the_file_is_its_end() -> None:
    np.testing.assert_array_equal(load_waveform(WHOLE, PLAIN, end_s=1.04), load_waveform(WHOLE, PLAIN))
    with pytest.raises(AudioError, match=r"too short: 0\.05 s"):
        load_waveform(WHOLE, PLAIN, start_s=0.2, end_s=0.25)


def test_a_wav_that_declares_four_gigabytes_is_truncated_or_streamed() -> None:
    at = WHOLE.index(b"data") + 4
    with pytest.raises(AudioError, match="truncated: 1999968000 of 2000000000 data bytes are missing"):
        load_waveform(patched(WHOLE, at, "<I", 2_000_000_000), PLAIN)


def test_damaged_files_raise_nothing_but_audio_errors() -> None:
    rng = random.Random(0)
    outcomes = set()
    for fmt, subtype in FORMATS:
        good = encode(noise(8_000), fmt=fmt, subtype=subtype)
        for _ in range(60):
            data = bytearray(good[: rng.choice([len(good), rng.randrange(len(good))])])
            for _ in range(rng.randrange(4)):
                if data:
                    data[rng.randrange(min(len(data), 100))] = rng.randrange(256)
            try:
                outcomes.add(load_waveform(bytes(data), PLAIN).dtype.name)
            except AudioError as error:
                outcomes.add(error.reject.kind)
    assert {"float32", "not audio", "truncated"} <= outcomes
