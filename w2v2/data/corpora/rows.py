"""One row of the clip table as the readers of corpora find it, and what its cells must be."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, NoReturn

from w2v2.config.data import DataConfig, TaskKind
from w2v2.errors import ClipError, Reject, UserError
from w2v2.storage import files as storage
from w2v2.wording import counted, quoted

Labels = TaskKind | Literal["none"]
"""The kind of labels that is learned; none where labels may be unknown."""
Groups = tuple[tuple[str, ...], ...]
"""The names of the targets, one inner tuple per head."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRow:
    """A row of the clip table; one that cannot be used has a reject."""

    clip_id: str
    uri: str
    start_s: float = 0.0
    end_s: float = math.inf
    speaker: str = ""
    split: str = ""
    label: str = ""
    targets: tuple[float | None, ...] = ()
    text: str = ""
    """The transcript, as the data has it."""
    extra_cells: tuple[str, ...] = ()
    """The cells of the extra columns that are asked for, in their order."""
    reject: Reject | None = None


@dataclass(frozen=True, kw_only=True)
class CorpusRows:
    """The rows that a reader has read, good and bad ones in order, read once, and the heads of their targets."""

    rows: Iterable[ClipRow]
    groups: Groups = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Numbers of files and rows that are neither clips nor rejects, by kind."""


def grouped(names: Sequence[str], task: Labels) -> Groups:
    """The heads of these targets by default: one for all labels, or one for each value."""
    if task == "multi_label":
        return (tuple(names),)
    return tuple((name,) for name in names)


def targets_of(cells: Mapping[str, str], names: Sequence[str], task: Labels) -> tuple[float | None, ...]:
    """The values of the cells of these names, None where one is empty.

    Raises ClipError when all are empty, and for a label that is not 0 or 1 or a value that is no finite
    number.
    """
    values = tuple(_target(name, cells[name], task) for name in names)
    if names and all(value is None for value in values):
        raise ClipError("no target", f"{quoted(names)} {'are all' if len(names) > 1 else 'is'} empty")
    return values


def _target(name: str, text: str, task: Labels) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if task == "multi_label" and value not in (0.0, 1.0):
        raise ClipError("bad target", f"{name} is {text!r}, wanted 0, 1 or empty")
    if not math.isfinite(value):
        raise ClipError("bad target", f"{name} is {text!r}, wanted a number or empty")
    return value


def resolved(uri: str, folder: str) -> str:
    """The whole uri of what a cell or setting names: relative ones are below the folder."""
    if "\\" in uri and "/" not in uri:
        uri = uri.replace("\\", "/")  # written on Windows
    if "://" in uri or uri.startswith(("/", "~")):
        return storage.expand(uri)
    if not storage.is_remote(folder) and ".." in PurePosixPath(uri).parts:
        return storage.expand(f"{folder}/{uri}")
    return storage.join(folder, *PurePosixPath(uri).parts)


def below(uri: str, root: str) -> str:
    """The path of a file below the root."""
    return uri.removeprefix(root).lstrip("/")


AUDIO_SUFFIXES = (
    ".wav", ".wave", ".sph", ".flac", ".ogg", ".oga", ".mp3", ".mp2", ".opus", ".aiff", ".aif", ".aifc", ".m4a", ".m4b",
    ".mp4", ".3gp", ".webm", ".mka",
)  # fmt: skip
UNREAD_SUFFIXES = (
    ".wma", ".amr", ".awb", ".aac", ".ac3", ".caf", ".au", ".snd", ".w64", ".ra", ".ape", ".wv", ".tta", ".mpc", ".dsf", ".voc",
)  # fmt: skip
"""Suffixes of audio that is not read; convert it, with ffmpeg for example."""


HIDDEN, NOT_AUDIO = "hidden files", "files that are not audio"
UNREAD = "audio files in formats not read"
UNNAMED, UNANNOTATED = "audio files of another name", "recordings without a row"
OTHER_CHANNEL, OTHER_STUDY, OTHER_SPLIT = "other vocal channel", "other studies", "other splits"
DROPPED, EXCLUDED = "dropped classes", "speakers to exclude"


def files_below(root: str) -> tuple[list[str], Counter[str]]:
    """The uris of the files below a folder, sorted, and the number of hidden ones by kind."""
    uris = [info.uri for info in storage.list_files(root, hidden=True)]
    visible = [uri for uri in uris if not storage.is_hidden(uri, root)]
    return visible, Counter({HIDDEN: len(uris) - len(visible)} if len(visible) < len(uris) else {})


def audio_among(uris: Sequence[str], data: DataConfig, passed_over: Counter[str]) -> list[str]:
    """The uris with an audio suffix, of any case, in their order; the others are counted in passed_over.

    Raises UserError where none has one.
    """
    audio = [uri for uri in uris if uri.lower().endswith(AUDIO_SUFFIXES)]
    if not audio:
        refuse_no_audio(data, uris)
    unread = [uri for uri in uris if uri.lower().endswith(UNREAD_SUFFIXES)]
    if unread:
        passed_over[UNREAD] += len(unread)
        logger.warning(
            "%s: passed over %d audio files of formats that are not read, such as %s; convert them (ffmpeg -i a.wma a.wav)",
            data.uri, len(unread), unread[0],
        )  # fmt: skip
    if len(audio) + len(unread) < len(uris):
        passed_over[NOT_AUDIO] += len(uris) - len(audio) - len(unread)
        logger.info(
            "%s: passed over %s", data.uri, counted(len(uris) - len(audio), "files that are not audio")
        )
    return audio


def refuse_no_audio(data: DataConfig, uris: Sequence[str]) -> NoReturn:
    """Raises UserError about a folder of these files, none of which is audio."""
    suffixes = Counter(PurePosixPath(uri).suffix.lower() or "no suffix" for uri in uris)
    counts = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common(5)) or "no file at all"
    raise UserError(
        f"data.uri {data.uri} holds no audio file ({' '.join(AUDIO_SUFFIXES)}), found {counts}: "
        "give the folder of the audio files, or a .csv file"
    )
