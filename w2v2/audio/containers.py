"""Container formats: recognised by a file's first bytes, and checked for a missing end.

A file whose header promises more bytes than it has is refused; one that promises nothing (written to a pipe, or by
a recorder that died) is read to its end, and `tolerated` reports that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from w2v2.audio import mpeg_frames
from w2v2.audio.audio_error import AudioError

READ = "wav, flac, ogg, opus, mp3, aiff, m4a and webm are read"

# Sizes from here on are written where the size is not known yet: 0x7FFFF000 (wav) and 0x7F000008 (aiff) by sox,
# 0x7FFFFFFF and 0xFFFFFFFF by others. Files that large are not read anyway.
_PLACEHOLDER = 0x7F000000
# PCM, Microsoft's ADPCM, floats, A-law, mu-law, IMA ADPCM, GSM 6.10 and what an extensible header names.
_WAV_CODECS = (1, 2, 3, 6, 7, 0x11, 0x31, 0xFFFE)

NO_SIZE = "no size in the header"
NO_END_MARK = "no mark of the end"
GAPS = "gaps between frames"


@dataclass(frozen=True, kw_only=True)
class Container:
    """A file of a recognised format that has all the bytes its header promises."""

    format: Literal["wav", "aiff", "nist", "flac", "mp3", "ogg", "mov", "matroska"]
    """The name of ffmpeg's demuxer."""
    parts: tuple[bytes, ...]
    """Streams to decode one after the other: several only for chained Ogg files."""
    decoder: Literal["libsndfile", "ffmpeg"] = "ffmpeg"
    tolerated: str = ""
    """What the file lacks although its sound is complete, such as a size in its header; '' for most files."""


def identify(data: bytes) -> Container:
    """The container of a file's bytes, without ID3 tags in front.

    Raises AudioError for an empty file, for a format that is not read, and where bytes are missing at the end.
    """
    if not data:
        raise AudioError("empty", "the file has 0 bytes")
    start = mpeg_frames.skip_id3(data)
    data = data[start:] if start else data
    match data[:4], data[4:8], data[8:12]:
        case ((b"RIFF" | b"RIFX" | b"RF64"), _, b"WAVE"):
            return _wav(data)
        case b"BW64", _, b"WAVE":  # the name that ITU-R BS.2088 gives to RF64
            return _wav(b"RF64" + data[4:])
        case b"NIST", _, _:
            return _nist(data)
        case b"FORM", _, (b"AIFF" | b"AIFC"):
            return _aiff(data)
        case b"fLaC", _, _:
            return _flac(data)
        case b"OggS", _, _:
            return _ogg(data)
        case _, b"ftyp", _:
            return _mp4(data)
        case b"\x1aE\xdf\xa3", _, _:
            return _matroska(data)
    return _mp3(data)


# -- RIFF and AIFF: chunks of a name and a size


def _chunks(data: bytes, order: Literal["little", "big"]) -> Iterator[tuple[bytes, int, int]]:
    """Name, size and content offset of each chunk, as far as the sizes lead."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], order)
        yield data[at : at + 4], size, at + 8
        at += 8 + size + size % 2


def _wav(data: bytes) -> Container:
    order: Literal["little", "big"] = "big" if data[:4] == b"RIFX" else "little"
    codec, size_of_64 = 1, -1
    for name, size, at in _chunks(data, order):
        if name == b"ds64":
            size_of_64 = int.from_bytes(data[at + 8 : at + 16], "little")
        elif name == b"fmt ":
            codec = int.from_bytes(data[at : at + 2], order)
        elif name == b"data":
            if data[:4] == b"RF64" and size == 0xFFFFFFFF and size_of_64 > 0:
                size = size_of_64
            container = Container(
                format="wav", parts=(data,), decoder="libsndfile" if codec in _WAV_CODECS else "ffmpeg"
            )
            if size < _PLACEHOLDER and not _hides_sound(data, at, size, order):
                _refuse_missing(size - (len(data) - at), size, "data bytes")
                return container
            length = (len(data) - at).to_bytes(4, order)
            magic = (
                b"RIFF" if data[:4] == b"RF64" else data[:4]
            )  # a size of 64 bits, unknown too, would come first
            fixed = magic + data[4 : at - 4] + length + data[at:]
            return replace(container, parts=(fixed,), tolerated=NO_SIZE)
    raise AudioError("not audio", f"a wav file without a data chunk ({READ})")


def _hides_sound(data: bytes, at: int, size: int, order: Literal["little", "big"]) -> bool:
    """Whether a size of 0 was never filled in: the bytes after it are no chain of chunks up to the end."""
    if size:
        return False
    while at + 8 <= len(data) and data[at : at + 4].isalnum():
        following = int.from_bytes(data[at + 4 : at + 8], order)
        at += 8 + following + following % 2
    return at + 1 < len(data)


def _aiff(data: bytes) -> Container:
    frames_at = 0
    for name, size, at in _chunks(data, "big"):
        if name == b"COMM":
            frames_at = at + 2
        if name == b"SSND" and size >= _PLACEHOLDER and frames_at:
            channels, bits = (int.from_bytes(data[i : i + 2], "big") for i in (frames_at - 2, frames_at + 4))
            num_bytes = len(data) - at
            num_frames = (num_bytes - 8) // max(1, channels * ((bits + 7) // 8))
            fixed = data[:frames_at] + num_frames.to_bytes(4, "big") + data[frames_at + 4 : at - 4]
            fixed += num_bytes.to_bytes(4, "big") + data[at:]
            return Container(format="aiff", parts=(fixed,), decoder="libsndfile", tolerated=NO_SIZE)
        if name == b"SSND":
            _refuse_missing(size - (len(data) - at), size, "data bytes")
            return Container(format="aiff", parts=(data,), decoder="libsndfile")
    raise AudioError("not audio", f"an aiff file without sound ({READ})")


def _nist(data: bytes) -> Container:
    """NIST SPHERE, as TIMIT's files are: lines of text that say how much follows them."""
    header = dict(
        (line.split()[0], line.split()[-1]) for line in data[:1024].split(b"\n") if len(line.split()) == 3
    )
    try:
        size = int(data[8:16])
        names = (b"sample_count", b"sample_n_bytes", b"channel_count")
        count, width, channels = (int(header.get(name, b"1")) for name in names)
    except ValueError:
        raise AudioError("not audio", f"a NIST SPHERE file without a header of numbers ({READ})") from None
    _refuse_missing(size + count * width * channels - len(data), count * width * channels, "data bytes")
    return Container(format="nist", parts=(data,), decoder="libsndfile")


def _refuse_missing(missing: int, promised: int, unit: str) -> None:
    if missing > 0:
        raise AudioError("truncated", f"{missing} of {promised} {unit} are missing")


# -- streams


def _flac(data: bytes) -> Container:
    # STREAMINFO: 36 bits of the total number of samples, 0 where the encoder did not know it.
    is_unknown = len(data) >= 26 and not (data[21] & 15 or any(data[22:26]))
    if is_unknown:
        return Container(format="flac", parts=(data,), tolerated=NO_SIZE)
    return Container(format="flac", parts=(data,), decoder="libsndfile")


def _ogg(data: bytes) -> Container:
    """The chained streams, found by walking from page to page (RFC 3533)."""
    at, starts, has_sound, is_end = 0, [], True, False
    while at < len(data):
        head = data[at : at + 27]
        sizes = data[at + 27 : at + 27 + head[26]] if len(head) == 27 else b""
        behind = at + 27 + len(sizes) + sum(sizes)
        if head[:4] != b"OggS"[: len(head)]:
            following = data.find(b"OggS", at)
            if following < 0:
                break  # a tag after the last page
            at = following
            continue
        if len(head) < 27 or len(sizes) < head[26] or behind > len(data):
            raise AudioError("truncated", "the last page is cut")
        is_start, is_end = bool(head[5] & 2), bool(head[5] & 4)
        if is_start and has_sound:
            starts.append(at)
        has_sound = not is_start
        at = behind
    if not starts:
        raise AudioError("truncated", "the first page is missing")
    parts = tuple(data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True))
    return Container(format="ogg", parts=parts, tolerated="" if is_end else NO_END_MARK)


def _mp3(data: bytes) -> Container:
    count = mpeg_frames.count_frames(data)
    if count is None:
        raise AudioError("not audio", f"its format is not supported ({READ})")
    _refuse_missing(count.promised_frames - count.num_frames - 1, count.promised_frames, "frames")
    if count.missing_bytes:
        raise AudioError("truncated", f"the last frame lacks {count.missing_bytes} bytes")
    # FFmpeg takes bytes between frames, such as a picture's, for frames.
    frames = b"".join(data[start:end] for start, end in count.runs)
    return Container(format="mp3", parts=(frames,), tolerated=GAPS if count.num_gaps else "")


def _mp4(data: bytes) -> Container:
    """Checked box by box: each has a size and a name, and a size of 0 means 'up to the end' (ISO/IEC 14496-12)."""
    at, names = 0, []
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        names.append(data[at + 4 : at + 8])
        at = len(data) if not size else at + max(8, size)
    _refuse_missing(at - len(data), len(data), "bytes")
    if b"moov" not in names:
        raise AudioError("truncated", "the table of samples (moov) is missing")
    return Container(format="mov", parts=(data,))


def _matroska(data: bytes) -> Container:
    """Checked by its EBML header and the segment after it, whose size may be unknown (RFC 8794, RFC 9559)."""
    size, at = _vint(data, 4)
    size, at = _vint(data, at + size + 4)
    if size < 0:
        return Container(format="matroska", parts=(data,), tolerated=NO_SIZE)
    _refuse_missing(at + size - len(data), size, "bytes of the segment")
    return Container(format="matroska", parts=(data,))


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """An EBML variable-length integer, -1 if unknown (all bits 1), and the offset of the byte after it."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if not first or at + length > len(data):
        raise AudioError("truncated", "the header is cut")
    value = int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1
    return (-1 if value == (1 << 7 * length) - 1 else value), at + length
