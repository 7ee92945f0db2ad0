"""DEAM: songs as <song_id>.mp3 and a CSV of the mean valence and arousal that listeners rated in each.

Aljanaki, Yang and Soleymani, Developing a benchmark for emotional analysis of music, PLoS ONE 12(3), 2017.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from w2v2.config.data import DataConfig
from w2v2.data.corpora.label_table import LabelTable, named, open_table
from w2v2.data.corpora.rows import (
    UNANNOTATED,
    UNNAMED,
    ClipRow,
    CorpusRows,
    Labels,
    audio_among,
    below,
    files_below,
    grouped,
    targets_of,
)
from w2v2.errors import ClipError, Reject, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted

logger = logging.getLogger(__name__)

TARGETS = ("valence", "arousal")
ANNOTATIONS = re.compile(r"(static_annotations_averaged_songs.*|annotations)\.csv", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class _Annotation:
    """A row of an annotations file: its song and ratings, or its reject."""

    song_id: str
    place: str
    targets: tuple[float | None, ...] = ()
    reject: Reject | None = None


def read_deam(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """The annotated songs in the order of their numbers; every song is its own speaker.

    For task none all songs, annotated or not. An annotation without its song is a reject; songs without annotation are
    passed over. Raises UserError where annotations are missing or cannot be read.
    """
    if task in ("classes", "multi_label", "transcript"):
        raise UserError(
            f"data.layout=deam has two values for each song, got task.kind={task}: set --task.kind regression"
        )
    if extra_columns:
        raise UserError(f"data.layout=deam has no extra columns, but {quoted(extra_columns)} are asked for")
    root = storage.expand(data.uri)
    uris, passed_over = files_below(root)
    audio = audio_among(uris, data, passed_over)
    songs = _songs(root, audio)
    if len(songs) < len(audio):
        passed_over[UNNAMED] = len(audio) - len(songs)
    if task == "none":
        rows = [_clip(song_id, songs[song_id]) for song_id in sorted(songs, key=int)]
        return CorpusRows(rows=rows, passed_over=passed_over)
    annotations = _annotations(root, uris, data)
    num_unknown = len(set(songs) - {annotation.song_id for annotation in annotations})
    logger.info("%s: %d songs have no annotation and are left out", root, num_unknown)
    if num_unknown:
        passed_over[UNANNOTATED] = num_unknown
    return CorpusRows(
        rows=[_row(note, songs, root) for note in annotations],
        groups=grouped(TARGETS, task),
        passed_over=passed_over,
    )


def _clip(song_id: str, uri: str, targets: tuple[float | None, ...] = ()) -> ClipRow:
    return ClipRow(clip_id=song_id, uri=uri, speaker=song_id, targets=targets)


def _row(note: _Annotation, songs: dict[str, str], root: str) -> ClipRow:
    reject = note.reject
    if not reject and note.song_id not in songs:
        missing = f"no {note.song_id}.wav, .mp3 or other audio below {root}"
        reject = Reject(kind="missing", detail=missing, place=note.place)
    if reject:
        return ClipRow(clip_id=note.song_id or note.place, uri=songs.get(note.song_id, ""), reject=reject)
    return _clip(note.song_id, songs[note.song_id], note.targets)


def _songs(root: str, audio: Sequence[str]) -> dict[str, str]:
    """The uri of each song by its number."""
    songs: dict[str, str] = {}
    for uri in audio:
        stem = PurePosixPath(uri).stem
        if not re.fullmatch("[0-9]+", stem):
            continue
        other = songs.setdefault(_song_id(stem), uri)
        if other != uri:
            raise UserError(
                f"song {_song_id(stem)} appears twice, as {below(other, root)} and {below(uri, root)}, below "
                f"data.uri {root}: remove one"
            )
    if not songs:
        raise UserError(
            f"data.uri {root} has no song named by its number, as 12.mp3, among its {len(audio)} audio files: "
            "give the folder of DEAM"
        )
    if len(songs) < len(audio):
        logger.info("%s: passed over %d audio files whose name is no number", root, len(audio) - len(songs))
    return songs


def _song_id(digits: str) -> str:
    return digits.lstrip("0") or "0"


def _annotations(root: str, uris: Sequence[str], data: DataConfig) -> list[_Annotation]:
    """The rows of all annotations files, in the order of the songs' numbers."""
    tables = [uri for uri in uris if ANNOTATIONS.fullmatch(PurePosixPath(uri).name)]
    if not tables:
        raise UserError(
            f"data.uri {data.uri} has no static_annotations_averaged_songs_1_2000.csv (or _2000_2058.csv, or "
            "annotations.csv) below it: give the folder that has DEAM's annotations and its songs"
        )
    notes = [note for uri in tables for note in _read_annotations(uri)]
    first: dict[str, str] = {}
    for note in notes:
        if not note.song_id:
            continue
        other = first.setdefault(note.song_id, note.place)
        if other != note.place:
            raise UserError(
                f"song {note.song_id} is annotated twice, in {other} and in {note.place}, below data.uri {root}: "
                "keep one of them"
            )
    return sorted(notes, key=lambda note: int(note.song_id or -1))


def _read_annotations(uri: str) -> Iterator[_Annotation]:
    file = open_table(uri, shown_as=uri)
    columns = _columns(file)
    for number, fields in file.rows:
        place = f"row {number} of {PurePosixPath(uri).name}"
        cells = file.with_numbers(named(fields, columns), TARGETS)
        yield _annotation(file, fields, cells, place)


def _columns(file: LabelTable) -> dict[str, int]:
    """Positions of song_id, valence and arousal."""
    names = ["song_id"]
    file.need("song_id", "wanted DEAM's columns song_id, valence_mean and arousal_mean")
    for target in TARGETS:
        name = file.spelled(f"{target}_mean") or file.spelled(target)
        if not name:
            file.need(f"{target}_mean", "wanted DEAM's columns song_id, valence_mean and arousal_mean")
        names.append(name)
    return dict(zip(("song_id", *TARGETS), file.places(names).values(), strict=True))


def _annotation(file: LabelTable, fields: Sequence[str], cells: dict[str, str], place: str) -> _Annotation:
    written = cells.get("song_id", "")
    song_id = _song_id(written) if re.fullmatch("[0-9]+", written) else ""
    try:
        if not song_id:
            raise ClipError("bad song_id", f"{written!r}, wanted a number")
        file.check_width(fields)
        return _Annotation(song_id=song_id, place=place, targets=targets_of(cells, TARGETS, "regression"))
    except ClipError as error:
        return _Annotation(song_id=song_id, place=place, reject=replace(error.reject, place=place))
