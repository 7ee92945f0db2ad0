"""Containers to mono samples: libsndfile for wav, aiff and flac, FFmpeg (PyAV) for lossy formats.

Both decode to the end of the data and no further than asked for; lengths in headers are not believed.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
from jaxtyping import Float

from w2v2.audio.audio_error import AudioError
from w2v2.audio.containers import READ, Container
from w2v2.wording import counted

MAX_CHANNELS = 64
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
_BLOCK_FRAMES = 2**18
# The largest share of a stream's packets that may be damaged, as at the start of a recorded broadcast.
_DAMAGED_FRACTION = 0.01


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Decoded samples, mono."""

    values: Float[np.ndarray, " samples"]
    """float32, at rate_hz; full scale is [-1, 1]."""
    rate_hz: int
    num_frames: int
    """Frames from the start of the file to where decoding ended; the file's length if that was reached."""
    is_integer: bool
    """Whether the file holds integers, which are always finite and within full scale."""
    tolerated: str = ""
    """Damage that was passed over, such as packets that cannot be decoded; '' for most files."""


class Decoder:
    """An open file: its sampling rate, the length in its header if there is one, and its samples."""

    rate_hz: int
    num_frames: float
    """Frames that the header promises; inf where it promises none."""
    num_channels: int

    def read(self, first: int, last: float) -> Sound:
        """The frames from `first` up to `last`, fewer if the file ends before.

        Raises AudioError where the file is truncated or damaged.
        """
        raise NotImplementedError


def open_decoder(container: Container) -> Decoder:
    """The decoder for a container.

    Raises AudioError where the file cannot be opened, or has an absurd number of channels or sampling rate.
    """
    decoder: Decoder = _Sndfile(container) if container.decoder == "libsndfile" else _Ffmpeg(container)
    if decoder.num_channels > MAX_CHANNELS:
        raise AudioError("absurd header", f"{decoder.num_channels} channels > {MAX_CHANNELS}")
    if not MIN_RATE_HZ <= decoder.rate_hz <= MAX_RATE_HZ:
        raise AudioError("absurd header", f"{decoder.rate_hz} Hz outside [{MIN_RATE_HZ}, {MAX_RATE_HZ}]")
    return decoder


class _Sndfile(Decoder):
    def __init__(self, container: Container) -> None:
        try:
            self._file = soundfile.SoundFile(io.BytesIO(container.parts[0]))
        except soundfile.LibsndfileError as error:
            raise AudioError("not audio", f"{error.error_string.strip()} ({READ})") from error
        self.rate_hz, self.num_channels = self._file.samplerate, self._file.channels
        self.num_frames = self._file.frames

    def read(self, first: int, last: float) -> Sound:
        with self._file as file:
            is_integer = file.subtype.startswith("PCM_")
            try:
                # Blocks of GSM and ADPCM cannot be entered in their middle.
                skipped = 0 if is_integer or file.subtype in ("FLOAT", "DOUBLE", "ULAW", "ALAW") else first
                if first and not skipped:  # seeking in a FLAC file decodes up to there
                    file.seek(first)
                values = np.concatenate(
                    list(self._blocks(first - skipped, last)) or [np.zeros(0, np.float32)]
                )
            except soundfile.LibsndfileError as error:
                raise AudioError("truncated", f"{error.error_string.strip()}") from error
        reached = first - skipped + len(values)
        promised = int(min(last, self.num_frames))
        if reached < promised:
            raise AudioError("truncated", f"{promised - reached} of {promised - first} samples are missing")
        return Sound(values=values[skipped:], rate_hz=self.rate_hz, num_frames=reached, is_integer=is_integer)

    def _blocks(self, at: int, last: float) -> Iterator[Float[np.ndarray, " samples"]]:
        while at < last:
            wanted = int(min(_BLOCK_FRAMES, last - at))
            values = self._file.read(wanted, dtype="float32", always_2d=True)
            at += len(values)
            if len(values):
                yield mono(values)
            if len(values) < wanted:
                return


class _Ffmpeg(Decoder):
    num_frames = math.inf

    def __init__(self, container: Container) -> None:
        self._container = container
        with _opened(container.format, container.parts[0]) as file:
            stream = file.streams.audio[0]
            self.rate_hz, self.num_channels = stream.rate or 0, stream.channels or 0

    def read(self, first: int, last: float) -> Sound:
        pieces: list[np.ndarray] = []
        reached, damage = 0, _Damage()
        for piece in self._pieces(damage):
            if reached + len(piece) > first:
                pieces.append(piece[max(0, first - reached) :])
            reached += len(piece)
            if reached >= last:
                pieces[-1:] = [pieces[-1][: len(pieces[-1]) - int(reached - last)]]
                break
        values = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        return Sound(
            values=values,
            rate_hz=self.rate_hz,
            num_frames=reached,
            is_integer=False,
            tolerated=damage.checked(),
        )

    def _pieces(self, damage: "_Damage") -> Iterator[Float[np.ndarray, " samples"]]:
        """Mono samples of all parts at the rate of the first."""
        for part in self._container.parts:
            with _opened(self._container.format, part) as file:
                for frame in _frames(file, damage):
                    piece = mono(_float32(frame))
                    if frame.sample_rate != self.rate_hz:
                        import soxr

                        piece = soxr.resample(piece, frame.sample_rate, self.rate_hz, quality="HQ")
                    yield piece


class _Damage:
    """How many packets of a file could not be decoded."""

    def __init__(self) -> None:
        self.num_packets = self.num_damaged = 0
        self.is_last = False

    def checked(self) -> str:
        """`tolerated` of the sound. Raises AudioError where the last packet or too many are damaged."""
        if self.is_last:
            raise AudioError("truncated", "the last packet cannot be decoded")
        if not self.num_damaged:
            return ""
        if self.num_damaged > max(1, _DAMAGED_FRACTION * self.num_packets):
            raise AudioError("damaged", f"{self.num_damaged} of {self.num_packets} packets cannot be decoded")
        return counted(self.num_damaged, "damaged packets")


def _opened(format_name: str, data: bytes):
    import av

    try:
        # The format is named, so that no playlist among the bytes makes FFmpeg open other files or addresses.
        file = av.open(io.BytesIO(data), format=format_name, metadata_errors="ignore")
    except (av.FFmpegError, ValueError) as error:
        raise AudioError("not audio", f"{_words(error)} ({READ})") from error
    if not file.streams.audio or file.streams.audio[0].codec_context is None:
        file.close()
        raise AudioError("not audio", f"no sound in it that can be decoded ({READ})")
    return file


def _frames(file, damage: _Damage):
    import av

    stream = file.streams.audio[0]
    packets = file.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            raise AudioError("truncated", f"{_words(error)}") from error
        damage.num_packets += 1
        try:
            frames = packet.decode()
            damage.is_last = False if packet.size else damage.is_last
        except av.EOFError:
            return
        except av.FFmpegError:
            damage.num_damaged, damage.is_last, frames = damage.num_damaged + 1, True, []
        yield from frames


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error).strip()


def _float32(frame) -> Float[np.ndarray, "samples channels"]:
    """The samples of an FFmpeg frame as float32 in [-1, 1], shape (samples, channels)."""
    values = frame.to_ndarray()
    num_channels = frame.layout.nb_channels
    values = values.T if frame.format.is_planar else values.reshape(-1, num_channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32, copy=False)
    largest = 2.0 ** (8 * values.dtype.itemsize - 1)
    return (values.astype(np.float32) - (largest if values.dtype.kind == "u" else 0)) / np.float32(largest)


def mono(values: Float[np.ndarray, "samples channels"]) -> Float[np.ndarray, " samples"]:
    """The mean of the channels."""
    if values.shape[1] == 1:
        return values[:, 0]
    # Ten times as fast as the mean over an axis of length two.
    return values @ np.full(values.shape[1], 1 / values.shape[1], dtype=np.float32)
