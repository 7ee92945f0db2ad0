"""MPEG audio (mp1, mp2, mp3) frame by frame: whether a file is whole; decoders.py makes samples of it.

Frame headers are defined in ISO/IEC 11172-3 and 13818-3; the Xing, Info and VBRI headers, which count the frames of a
file, are written by LAME and by Fraunhofer's encoders.
"""

from dataclasses import dataclass

# kbit/s by (MPEG-1 or not, layer), index 1 to 14; index 0 is a free format, which nobody writes.
_KBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
# A stream may begin in the middle of a frame; what begins further into the file must be a chain of frames.
_SEARCHED_BYTES = 2**16
_SEARCHED_FOR_CHAIN_BYTES = 2**24
_CHAIN_FRAMES = 5
_TAGS = (b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"TAG")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The fields of one frame header."""

    size_bytes: int
    rate_hz: int
    counter_at: int
    """The offset in the frame where a Xing or Info header would be."""


@dataclass(frozen=True, kw_only=True)
class FrameCount:
    """The frames of a file, counted by walking over their headers."""

    num_frames: int
    """Frames of sound."""
    promised_frames: int
    """The sum of the frames that the Xing, Info and VBRI headers count; 0 where there are none."""
    missing_bytes: int
    """The number of bytes that the last frame lacks."""
    runs: tuple[tuple[int, int], ...]
    """Offsets of runs of frames without anything between them."""
    num_gaps: int = 0
    """Places between frames that hold neither a tag nor zeros: sound was lost there."""


def count_frames(data: bytes) -> FrameCount | None:
    """The number of frames in data, which may be several files joined; None where data is not MPEG audio.

    Bytes between frames (ID3, APE and Lyrics3 tags, garbage) are passed over: a frame counts where another
    follows it or the data ends with it.
    """
    at = _next_frame(data, 0, min(len(data), _SEARCHED_BYTES))
    if at < 0:
        at = _next_frame(data, 0, min(len(data), _SEARCHED_FOR_CHAIN_BYTES), num_following=_CHAIN_FRAMES)
    if at < 0:
        return None
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)
    num_frames = promised = missing = num_gaps = 0
    runs, start = [], at
    while 0 <= at < end:
        frame = _frame(data, at)
        if frame is None:
            runs.append((start, at))
            start = _next_frame(data, skip_id3(data, at), end)
            num_gaps += start >= 0 and not _is_tag(data[at:start])
            at = start
            continue
        counted = _counted(data, at, frame)
        promised += counted
        num_frames += not counted
        at += frame.size_bytes
        missing = max(0, at - end)
    if 0 <= start < end:
        runs.append((start, min(at, end)))
    return FrameCount(
        num_frames=num_frames,
        promised_frames=promised,
        missing_bytes=missing,
        runs=tuple(runs),
        num_gaps=num_gaps,
    )


def skip_id3(data: bytes, at: int = 0) -> int:
    """The offset after the ID3v2 tags at offset `at`; `at` itself where it has none."""
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 127
        at += 10 + size + (10 if data[at + 5] & 16 else 0)
    return at


def _is_tag(between: bytes) -> bool:
    """Whether the bytes between two frames are a tag or zeros."""
    return between.startswith(_TAGS) or not between.strip(b"\0")


def _next_frame(data: bytes, at: int, end: int, *, num_following: int = 1) -> int:
    """Offset of the first frame that so many others, or others up to the end of the data, follow; -1 if there is none."""
    while (at := data.find(b"\xff", at, end)) >= 0:
        if _is_followed(data, at, num_following):
            return at
        at += 1
    return -1


def _is_followed(data: bytes, at: int, num_following: int) -> bool:
    first = frame = _frame(data, at)
    for _ in range(num_following):
        if frame is None or first is None or frame.rate_hz != first.rate_hz:
            return False
        at += frame.size_bytes
        if at == len(data):
            return True
        frame = _frame(data, at)
    return frame is not None and first is not None and frame.rate_hz == first.rate_hz


def _frame(data: bytes, at: int) -> Frame | None:
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    kbit, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or not 1 <= kbit <= 14 or rate == 3:
        return None
    is_first = version == 3
    rate_hz = _RATES_HZ[version][rate]
    num_samples = 384 if layer == 1 else 1152 if layer == 2 or is_first else 576
    slot = 4 if layer == 1 else 1
    bits = _KBITS[is_first, layer][kbit - 1] * 1000
    slots = num_samples // 8 // slot * bits // rate_hz + (header[2] >> 1 & 1)
    is_mono = header[3] >> 6 == 3
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return Frame(size_bytes=slots * slot, rate_hz=rate_hz, counter_at=4 + side)


def _counted(data: bytes, at: int, frame: Frame) -> int:
    """Number of frames in this frame's Xing, Info or VBRI header; 0 where it is a frame of sound."""
    place = at + frame.counter_at
    if data[place : place + 4] in (b"Xing", b"Info"):
        has_count = int.from_bytes(data[place + 4 : place + 8], "big") & 1
        return int.from_bytes(data[place + 8 : place + 12], "big") if has_count else 0
    if data[at + 36 : at + 40] == b"VBRI":
        return int.from_bytes(data[at + 50 : at + 54], "big")
    return 0
