"""Audio that is rejected, each kind with its message, and audio that is just good enough."""

import io
import math
import random
import struct

import numpy as np
import pytest
import soundfile

from tests.made.sounds import FORMATS, encode, noise, sine
from w2v2.audio.decoding import AudioError, load_waveform
from w2v2.config.data import AudioConfig

PLAIN = AudioConfig()


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
        (PLAIN, "too long: 21600 s, and at most 3600 s of such a file are decoded at once; cut it"),
        (AudioConfig(trim_db=30.0), "too long: 21600 s"),
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
    "au": (encode(sine(1.0), fmt="AU", subtype="PCM_16"), "not audio: its format is not supported"),
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
