"""Files of programs other than ours, odd but whole: every sample of them is read, and what is lost in them is reported."""

import random
import struct

import numpy as np
import pytest

from tests.audio.test_lengths import LONG, encoded, sound, without_xing, written
from w2v2.audio.containers import GAPS, NO_SIZE
from w2v2.audio.decoding import AudioError, load_clip, load_waveform
from w2v2.audio.mpeg_frames import count_frames

FAKE_FRAMES = b"\xff\xfb\x90\x00" * 200
"""What looks like headers of frames inside of a tag."""


def syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def id3v24_with_footer() -> bytes:
    head = b"\x04\x00\x10" + syncsafe(len(FAKE_FRAMES))
    return b"ID3" + head + FAKE_FRAMES + b"3DI" + head


def ape() -> bytes:
    def block(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<4I", 2000, len(FAKE_FRAMES) + 32, 1, flags) + bytes(8)

    return block(0xA0000000) + FAKE_FRAMES + block(0x80000000)


@pytest.fixture(scope="module")
def mp3() -> bytes:
    return without_xing(encoded(sound(2.0), "mp3", "libmp3lame"))


ID3V1 = b"TAG" + b"x" * 125
AROUND = {
    "footer in front": (id3v24_with_footer(), b""),
    "footer at the end": (b"", id3v24_with_footer()),
    "ape in front": (ape(), b""),
    "ape and id3v1 at the end": (b"", ape() + ID3V1),
    "two id3v1": (b"", ID3V1 + ID3V1),
    "lyrics": (b"", b"LYRICSBEGIN" + b"la" * 99 + b"000209LYRICS200" + ID3V1),
    "zeros": (bytes(3000), bytes(5000)),
    "many zeros in front": (bytes(90_000), b""),
    "garbage": (random.Random(1).randbytes(2000), random.Random(2).randbytes(2000)),
    "much garbage in front": (random.Random(3).randbytes(90_000), b""),
}


@pytest.mark.parametrize("case", AROUND)
def test_what_is_around_the_frames_of_an_mp3_is_no_sound(case: str, mp3: bytes) -> None:
    before, behind = AROUND[case]
    clip = load_clip(before + mp3 + behind, LONG)
    np.testing.assert_allclose(clip.waveform, load_waveform(mp3, LONG), atol=1e-6)
    assert clip.tolerated == ""


@pytest.mark.parametrize("tag", [id3v24_with_footer(), ape(), ID3V1, bytes(500), b""])
def test_joined_mp3_with_tags_between_them(tag: bytes, mp3: bytes) -> None:
    other = without_xing(encoded(sound(1.0, seed=1), "mp3", "libmp3lame", bit_rate="32000"))
    count = count_frames(other)
    assert count is not None
    other = other[count.runs[0][0] :]  # from its first whole frame on
    clip = load_clip(mp3 + tag + other, LONG)
    assert len(clip.waveform) == len(load_waveform(mp3, LONG)) + len(load_waveform(other, LONG))
    assert clip.tolerated == ""


def test_a_hole_in_an_mp3_is_reported(mp3: bytes) -> None:
    middle = len(mp3) // 2
    clip = load_clip(mp3[:middle] + random.Random(4).randbytes(900) + mp3[middle + 1500 :], LONG)
    assert clip.tolerated == GAPS and len(clip.waveform) < len(load_waveform(mp3, LONG))


def test_noise_is_no_mp3() -> None:
    for seed in range(20):
        with pytest.raises(AudioError, match="not audio"):
            load_clip(random.Random(seed).randbytes(200_000), LONG)


# -- RIFF, RF64, AIFF, NIST


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    return name + struct.pack("<I", length) + content + bytes(len(content) % 2)


def riff(*chunks: bytes, magic: bytes = b"RIFF", size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


@pytest.fixture(scope="module")
def parts() -> tuple[bytes, bytes]:
    """The format chunk and the samples of a wav."""
    wav = written(sound(1.0), "WAV", "PCM_16")
    return wav[12:36], wav[44:]


def test_chunks_around_the_samples(parts: tuple[bytes, bytes]) -> None:
    fmt, samples = parts
    wanted = load_waveform(riff(fmt, chunk(b"data", samples)), LONG)
    junk, odd = chunk(b"JUNK", bytes(28)), chunk(b"bext", b"a" * 603)
    for wav in (
        riff(junk, odd, fmt, chunk(b"fact", bytes(4)), chunk(b"data", samples), chunk(b"LIST", b"INFOISFT\x05\0\0\0hello\0")),
        riff(fmt, chunk(b"data", samples), size=36),
        riff(fmt, chunk(b"data", samples)) + b"\0junk behind all",
    ):  # fmt: skip
        clip = load_clip(wav, LONG)
        np.testing.assert_array_equal(clip.waveform, wanted)
        assert clip.tolerated == ""


def rf64(fmt: bytes, samples: bytes, *, promised: int, magic: bytes = b"RF64") -> bytes:
    sizes = chunk(b"ds64", struct.pack("<QQQI", promised + 72 if promised else 0, promised, promised // 2, 0))
    return riff(sizes, fmt, b"data\xff\xff\xff\xff" + samples, magic=magic, size=0xFFFFFFFF)


def test_rf64_whole_cut_and_never_finished(parts: tuple[bytes, bytes]) -> None:
    fmt, samples = parts
    wanted = load_waveform(riff(fmt, chunk(b"data", samples)), LONG)
    for magic in (b"RF64", b"BW64"):
        clip = load_clip(rf64(fmt, samples, promised=len(samples), magic=magic), LONG)
        np.testing.assert_array_equal(clip.waveform, wanted)
        assert clip.tolerated == ""
        with pytest.raises(AudioError, match="truncated: 2000 of "):
            load_clip(rf64(fmt, samples[:-2000], promised=len(samples), magic=magic), LONG)
        died = load_clip(rf64(fmt, samples, promised=0, magic=magic), LONG)
        np.testing.assert_array_equal(died.waveform, wanted)
        assert died.tolerated == NO_SIZE


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM"]
)
def test_every_kind_of_sample_in_a_wav(subtype: str) -> None:
    values = sound(1.0)
    got = load_waveform(written(values, "WAV", subtype), LONG)
    assert 0 <= len(got) - len(values) < 1100  # blocks of ADPCM
    loss = {"PCM_U8": 0.01, "ALAW": 0.02, "ULAW": 0.02, "IMA_ADPCM": 0.1, "MS_ADPCM": 0.1}.get(subtype, 1e-6)
    assert np.abs(got[: len(values)] - values).max() < loss


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_S8"])
def test_an_aiff_from_a_pipe_is_read_to_its_end(subtype: str) -> None:
    """As sox writes it: 0x7F000008 bytes of sound, and as many frames as they hold."""
    aiff = written(sound(1.0), "AIFF", subtype)
    size_at, frames_at = aiff.index(b"SSND") + 4, aiff.index(b"COMM") + 10
    width = 2 if subtype == "PCM_16" else 1
    unknown = bytearray(aiff)
    unknown[size_at : size_at + 4] = (0x7F000008).to_bytes(4, "big")
    unknown[frames_at : frames_at + 4] = (0x7F000000 // width).to_bytes(4, "big")
    clip = load_clip(bytes(unknown), LONG)
    np.testing.assert_array_equal(clip.waveform, load_waveform(aiff, LONG))
    assert clip.tolerated == NO_SIZE and load_clip(aiff, LONG).tolerated == ""


def test_nist_sphere() -> None:
    """TIMIT's files, whose names end in .WAV."""
    nist = written(sound(1.0), "NIST", "PCM_16")
    np.testing.assert_array_equal(
        load_waveform(nist, LONG), load_waveform(written(sound(1.0), "WAV", "PCM_16"), LONG)
    )
    with pytest.raises(AudioError, match="truncated: 3000 of 32000 data bytes are missing"):
        load_waveform(nist[:-3000], LONG)
    with pytest.raises(AudioError, match="not audio: a NIST SPHERE file without a header of numbers"):
        load_waveform(nist.replace(b"sample_count -i 16000", b"sample_count -i  many"), LONG)
