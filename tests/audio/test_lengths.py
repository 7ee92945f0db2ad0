"""What a file decodes to is used whole, whatever its headers estimate, leave open or hide; what is cut is refused."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from tests.made.sounds import encoded, sound, written
from w2v2.audio.containers import NO_END_MARK, NO_SIZE
from w2v2.audio.decoding import SAMPLE_RATE, AudioError, load_clip, load_waveform
from w2v2.config.data import AudioConfig

LONG = AudioConfig(max_s=600.0)


def without_xing(mp3: bytes) -> bytes:
    """The frames of an mp3 behind the one that counts them, as an encoder writes them into a pipe."""
    at = mp3.index(b"\xff", mp3.index(b"Info" if b"Info" in mp3 else b"Xing"))
    while mp3[at + 1] & 0xE0 != 0xE0:
        at = mp3.index(b"\xff", at + 1)
    return mp3[at:]


def lag_of(part: np.ndarray, whole: np.ndarray) -> int:
    """Where in whole the part is."""
    return int(np.argmax(scipy.signal.correlate(whole, part, "valid", method="fft")))


def assert_same(got: np.ndarray, wanted: np.ndarray, *, slack: int, correlation: float = 0.97) -> None:
    """Equal lengths but for slack samples, and the same sound from beginning to end."""
    assert 0 <= len(got) - len(wanted) <= slack
    lag = lag_of(wanted[slack:-slack], got) - slack
    assert 0 <= lag <= slack
    assert np.corrcoef(got[lag : lag + len(wanted) - slack], wanted[:-slack])[0, 1] > correlation


ID3 = b"ID3\x03\0\0" + bytes([0, 3, 0x7F, 0x7F]) + b"\xff\xfb\x90\x00" * 16_383 + b"\0\0\0"
"""An ID3v2.3 tag of 64 kB with a picture that looks like frames of sound."""


def test_the_tag_is_as_long_as_it_says() -> None:
    assert len(ID3) == 10 + (3 << 14 | 0x7F << 7 | 0x7F)


# -- mp3


@pytest.mark.parametrize("seconds", [0.5, 5.0, 25.0])
@pytest.mark.parametrize("bit_rate", ["32000", "128000"])
def test_an_mp3_without_a_count_of_its_frames_is_read_whole(seconds: float, bit_rate: str) -> None:
    values = sound(seconds)
    bare = without_xing(encoded(values, "mp3", "libmp3lame", bit_rate=bit_rate))
    assert_same(load_waveform(bare, LONG), values, slack=3 * 1152)
    clip = load_clip(ID3 + bare, LONG)
    np.testing.assert_array_equal(clip.waveform, load_waveform(bare, LONG))
    assert clip.tolerated == "" and clip.sample_rate == SAMPLE_RATE


def test_loudness_that_changes_does_not_mislead_the_length() -> None:
    """Variable bit rate: the first seconds are silence of 8 kbit/s, so any estimate from them is far off."""
    values = np.concatenate([np.zeros(5 * SAMPLE_RATE, np.float32), sound(5.0)])
    mp3 = written(values, "MP3")
    assert_same(load_waveform(without_xing(mp3), LONG), values, slack=3 * 1152)
    assert_same(load_waveform(mp3, LONG), values, slack=1152)


def test_joined_mp3_files_are_read_to_the_end() -> None:
    one, two = sound(4.0), sound(3.0, seed=1)
    first, second = (encoded(values, "mp3", "libmp3lame") for values in (one, two))
    joined = load_waveform(first + ID3 + second, LONG)
    assert abs(len(joined) - 7 * SAMPLE_RATE) <= 4 * 1152
    np.testing.assert_allclose(
        joined[: 3 * SAMPLE_RATE], load_waveform(first, LONG)[: 3 * SAMPLE_RATE], atol=1e-4
    )
    tail = load_waveform(second, LONG)[-2 * SAMPLE_RATE :][:16_000]
    lag = lag_of(tail, joined)
    assert lag > 4.5 * SAMPLE_RATE
    np.testing.assert_allclose(joined[lag : lag + 16_000], tail, atol=1e-4)
    with pytest.raises(AudioError, match="truncated: "):
        load_waveform(first + second[: len(second) // 2], LONG)


@pytest.mark.parametrize(
    "tail", [b"TAG" + bytes(125), b"APETAGEX" + bytes(100), b"LYRICSBEGIN" + b"la " * 20]
)
def test_tags_behind_the_sound_are_no_sound(tail: bytes) -> None:
    mp3 = encoded(sound(2.0), "mp3", "libmp3lame")
    np.testing.assert_array_equal(load_waveform(mp3 + tail, LONG), load_waveform(mp3, LONG))
    bare = without_xing(mp3)
    np.testing.assert_allclose(load_waveform(bare + tail, LONG), load_waveform(bare, LONG), atol=1e-6)


def test_an_mp3_that_is_cut_is_refused() -> None:
    mp3 = encoded(sound(5.0), "mp3", "libmp3lame")
    with pytest.raises(AudioError, match=r"truncated: \d+ of \d+ frames are missing"):
        load_waveform(mp3[: len(mp3) // 2], LONG)
    bare = without_xing(mp3)
    with pytest.raises(AudioError, match=r"truncated: the last frame lacks \d+ bytes"):
        load_waveform(bare[: len(bare) // 2 - 3], LONG)


def test_mp3_in_riff_is_decoded_by_its_frames() -> None:
    values = sound(12.0)
    riff = encoded(values, "wav", "libmp3lame")
    assert riff[:4] == b"RIFF" and riff[riff.index(b"fmt ") + 8] == 0x55
    assert_same(load_waveform(riff, LONG), values, slack=3 * 1152)


# -- Ogg


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_streams_are_one_sound(subtype: str) -> None:
    one, two = (written(sound(2.0, seed=seed), "OGG", subtype) for seed in (0, 1))
    wanted = np.concatenate([load_waveform(one, LONG), load_waveform(two, LONG)])
    got = load_waveform(one + two, LONG)
    assert len(got) == len(wanted) == 4 * SAMPLE_RATE
    # Opus is resampled from 48 kHz over the seam.
    np.testing.assert_allclose(got[:30_000], wanted[:30_000], atol=1e-5)
    np.testing.assert_allclose(got[34_000:], wanted[34_000:], atol=1e-5)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_a_mark_of_its_end_is_taken_and_reported(subtype: str) -> None:
    whole = written(sound(3.0), "OGG", subtype)
    last = whole.rindex(b"OggS")
    unmarked = whole[: last + 5] + bytes([whole[last + 5] & ~4]) + whole[last + 6 :]
    unmarked = with_ogg_crc(unmarked, last)
    clip = load_clip(unmarked, LONG)
    assert clip.tolerated == NO_END_MARK
    assert abs(len(clip.waveform) - 3 * SAMPLE_RATE) <= 1024
    with pytest.raises(AudioError, match="truncated: the last page is cut"):
        load_waveform(whole[:-10], LONG)


def with_ogg_crc(data: bytes, at: int) -> bytes:
    """The page that begins there with its checksum (RFC 3533: CRC-32 with polynomial 0x04C11DB7)."""
    page = data[at : at + 22] + bytes(4) + data[at + 26 :]
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return data[: at + 22] + struct.pack("<I", crc) + data[at + 26 :]


# -- wav, flac, aiff


PLACEHOLDERS = [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFF - 36]


@pytest.mark.parametrize("size", PLACEHOLDERS)
def test_a_wav_from_a_pipe_is_read_to_its_end(size: int) -> None:
    wav = written(sound(1.0), "WAV", "PCM_16")
    at = wav.index(b"data") + 4
    open_end = wav[:4] + struct.pack("<I", size) + wav[8:at] + struct.pack("<I", size) + wav[at + 4 :]
    clip = load_clip(open_end, LONG)
    np.testing.assert_array_equal(clip.waveform, load_waveform(wav, LONG))
    assert clip.tolerated == NO_SIZE and load_clip(wav, LONG).tolerated == ""
    part = load_waveform(open_end, LONG, start_s=0.25, end_s=0.75)
    np.testing.assert_array_equal(part, clip.waveform[4_000:12_000])


def test_a_wav_of_no_samples_stays_empty() -> None:
    empty = written(np.zeros(0, np.float32), "WAV", "PCM_16")
    for tail in (b"", b"LIST" + struct.pack("<I", 4) + b"INFO"):
        with pytest.raises(AudioError, match="too short: 0 s"):
            load_waveform(empty + tail, LONG)


def test_a_tag_in_front_of_a_wav_hides_nothing() -> None:
    for fmt in ("WAV", "FLAC"):
        data = written(sound(1.0), fmt, "PCM_16")
        np.testing.assert_array_equal(load_waveform(ID3 + data, LONG), load_waveform(data, LONG))


def test_rf64_and_aiff_equal_wav() -> None:
    wav = load_waveform(written(sound(1.0), "WAV", "PCM_16"), LONG)
    for fmt in ("RF64", "AIFF"):
        data = written(sound(1.0), fmt, "PCM_16")
        np.testing.assert_array_equal(load_waveform(data, LONG), wav)
        with pytest.raises(AudioError, match="truncated: "):
            load_waveform(data[:-3_000], LONG)


def test_a_flac_that_does_not_know_its_length_is_read_to_its_end() -> None:
    flac = written(sound(3.0), "FLAC", "PCM_16")
    unknown = flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]
    clip = load_clip(unknown, LONG)
    np.testing.assert_array_equal(clip.waveform, load_waveform(flac, LONG))
    assert clip.tolerated == NO_SIZE


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "ULAW"])
def test_a_segment_of_blocks_is_a_slice_of_the_whole(subtype: str) -> None:
    data = written(sound(4.0, rate=8_000), "WAV", subtype, rate=8_000)
    values, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    whole = load_waveform(written(values, "WAV", "FLOAT", rate=8_000), LONG)
    assert abs(len(load_waveform(data, LONG)) - 4 * SAMPLE_RATE) <= 2 * 1_100
    part = load_waveform(data, LONG, start_s=1.003, end_s=2.5)
    inside = slice(400, -400)  # resampled without what is around it
    np.testing.assert_allclose(part[inside], whole[16_048 : 16_048 + len(part)][inside], atol=1e-4)


# -- what phones and browsers record


CONTAINERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "m4a": lambda values: encoded(values, "ipod", "aac"),
    "m4a for the web": lambda values: encoded(values, "mp4", "aac", movflags="faststart"),
    "webm": lambda values: encoded(values, "webm", "libopus", rate=48_000),
    "mka": lambda values: encoded(values, "matroska", "libopus", rate=48_000),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_recordings_of_phones_and_browsers(name: str) -> None:
    rate = 48_000 if name in ("webm", "mka") else SAMPLE_RATE
    values = sound(3.0, rate=rate)
    data = CONTAINERS[name](values)
    wanted = load_waveform(written(values, "WAV", "FLOAT", rate=rate), LONG)
    got = load_waveform(data, LONG)
    assert abs(len(got) - len(wanted)) <= 2_048
    lag = lag_of(wanted[2_000:42_000], got) - 2_000
    assert 0 <= lag <= 1_100
    assert np.corrcoef(got[lag : lag + 40_000], wanted[:40_000])[0, 1] > 0.95
    with pytest.raises(AudioError, match="truncated: "):
        load_waveform(data[: len(data) * 2 // 3], LONG)


def test_a_webm_of_a_browser_has_no_size() -> None:
    data = CONTAINERS["webm"](sound(2.0, rate=48_000))
    segment = data.index(b"\x18\x53\x80\x67") + 4
    length = 9 - data[segment].bit_length()
    live = data[:segment] + b"\x01" + b"\xff" * 7 + data[segment + length :]
    assert load_clip(live, LONG).tolerated == NO_SIZE
    np.testing.assert_array_equal(load_waveform(live, LONG), load_waveform(data, LONG))


# -- limits


def test_too_long_shows_without_decoding_all() -> None:
    mp3 = encoded(sound(30.0), "mp3", "libmp3lame")
    with pytest.raises(AudioError, match=r"too long: more than 10 s \(audio\.max_s 10\)"):
        load_waveform(mp3, AudioConfig(max_s=10.0))
    assert len(load_waveform(mp3, AudioConfig(max_s=10.0, crop_s=8.0))) == 8 * SAMPLE_RATE
    # LAME's padding behind a file of just the longest length does not count.
    exact = encoded(sound(10.0), "mp3", "libmp3lame")
    assert len(load_waveform(exact, AudioConfig(max_s=10.1))) <= 10.1 * SAMPLE_RATE


def test_floats_on_another_scale_are_reported_and_absurd_ones_refused() -> None:
    loud = sound(1.0) * 32_767
    clip = load_clip(written(loud, "WAV", "FLOAT"), LONG)
    np.testing.assert_array_equal(clip.waveform, loud)
    assert clip.tolerated.startswith("samples up to ")
    with pytest.raises(AudioError, match=r"absurd samples: up to \S+e\+37, wanted -1 to 1"):
        load_waveform(written((sound(1.0) * 1e38).astype(np.float32), "WAV", "FLOAT"), LONG)


def test_a_playlist_is_no_audio(tmp_path: Path) -> None:
    """FFmpeg would open what a playlist names, also on other machines."""
    inside = tmp_path / "a.wav"
    inside.write_bytes(written(sound(1.0), "WAV"))
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{inside}\n",
        f"ffconcat version 1.0\nfile {inside}\n",
    ):
        with pytest.raises(AudioError, match="not audio: its format is not supported"):
            load_waveform(text.encode(), LONG)
