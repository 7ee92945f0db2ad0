"""A clinic's folder: train.csv, test.csv and val.csv (or .tsv, .parquet, .xlsx) say which recordings, labels.txt which of their labels.

A row names its recording in the column file_name or, where there is none, uid (any case). The audio is
<root>/[<study>/]NAME, with or without its suffix, or <root>/[<study>/]NAME/waveform.EXT with a metadata.json
next to it. An optional column study says in which subfolder.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from w2v2.config.data import SPLITS, DataConfig
from w2v2.data.corpora import recordings
from w2v2.data.corpora.label_table import TABLE_SUFFIXES, LabelTable, named, open_table
from w2v2.data.corpora.labels_file import read_labels_file
from w2v2.data.corpora.recordings import Recordings
from w2v2.data.corpora.rows import (
    NOT_AUDIO,
    OTHER_STUDY,
    ClipRow,
    CorpusRows,
    Groups,
    Labels,
    audio_among,
    files_below,
    grouped,
    resolved,
    targets_of,
)
from w2v2.errors import ClipError, Reject, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A clip, the place of its row in the CSVs, and its metadata.json ('' where it has none)."""

    clip: ClipRow
    place: str
    metadata: str = ""


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The columns that are read of each row; '' where the table has none."""

    task: Labels
    targets: Sequence[str]
    extra_columns: Sequence[str]
    name: str
    study: str
    speaker: str

    @property
    def columns(self) -> list[str]:
        """The names of all columns that are read."""
        return [*filter(None, [self.name, self.study, self.speaker]), *self.targets, *self.extra_columns]


def read_clinic(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """The recordings of train.csv, val.csv and test.csv, in that order; split is the file's name.

    The speaker is the cell of data.speaker_column, else metadata.json's key of that name, else the recording itself
    (for task none: the cell alone, else empty). A recording that is missing, or in several places, is a reject.
    Recordings outside data.studies are neither clips nor rejects. Raises UserError where files or columns are missing.
    """
    if task == "transcript":
        raise UserError(
            "data.layout=clinic has labels, got task.kind=transcript: give a CSV with data.text_column"
        )
    if task == "classes":
        raise UserError(
            "data.layout=clinic has several labels for each recording, got task.kind=classes: "
            "set --task.kind multi_label"
        )
    root = storage.expand(data.uri)
    uris, passed_over = files_below(root)
    tables = _tables(root, uris, data)
    groups = () if task == "none" else _groups(root, data, task)
    targets = [name for group in groups for name in group]
    audio = recordings.index(root, uris, audio_among(uris, data, passed_over), studies=data.studies)
    rows: list[_Row] = []
    for split, uri in tables.items():
        file = open_table(uri, shown_as=uri)
        wanted = _wanted(file, data, task, targets, extra_columns)
        rows += _read_split(file, split, PurePosixPath(uri).name, audio, wanted, passed_over)
    _refuse_twice(rows)
    clips = [row.clip for row in rows] if task == "none" else _with_speakers(rows, data)
    # Tables, labels.txt and metadata.json are no recordings, and rows are what is given here.
    del passed_over[NOT_AUDIO]
    return CorpusRows(rows=clips, groups=groups, passed_over=passed_over)


def _tables(root: str, uris: Sequence[str], data: DataConfig) -> dict[str, str]:
    """The table of each split. Raises UserError where there is none, and where a split has two."""
    present = set(uris)
    tables_of = {
        split: [
            uri for suffix in TABLE_SUFFIXES if (uri := storage.join(root, f"{split}{suffix}")) in present
        ]
        for split in SPLITS
    }
    if double := next((tables for tables in tables_of.values() if len(tables) > 1), None):
        raise UserError(f"{double[0]} and {double[1]} are tables of the same split: remove one of them")
    tables = {split: uri for split, uris_of in tables_of.items() for uri in uris_of}
    if not tables:
        raise UserError(
            f"data.uri {data.uri} has no train.csv, val.csv or test.csv (or .tsv, .parquet, .xlsx), which data.layout=clinic needs: "
            "give the folder that has them, or set --data.layout csv"
        )
    logger.info("%s: reading %s", root, ", ".join(PurePosixPath(uri).name for uri in tables.values()))
    return tables


def _groups(root: str, data: DataConfig, task: Labels) -> Groups:
    """The labels of each line of the labels file; of a regression each value is a head of its own."""
    groups = read_labels_file(resolved(data.labels_file or "labels.txt", root))
    return groups if task == "multi_label" else grouped([name for group in groups for name in group], task)


def _wanted(
    file: LabelTable, data: DataConfig, task: Labels, targets: Sequence[str], extra_columns: Sequence[str]
) -> _Wanted:
    """The columns to read, as the header spells them; UserError for one that is missing."""
    name = file.spelled("file_name") or file.spelled("uid")
    if not name:
        file.need("file_name", "name the recordings in a column file_name or uid")
    for target in targets:
        labels_file = data.labels_file or "labels.txt"
        file.need(target, f"{labels_file} names it (data.labels_file), so fix one of the two")
    file.need_columns(extra_columns)
    return _Wanted(
        task=task,
        targets=targets,
        extra_columns=extra_columns,
        name=name,
        study=file.spelled("study"),
        speaker=file.spelled(data.speaker_column),
    )


def _read_split(
    file: LabelTable, split: str, name: str, audio: Recordings, wanted: _Wanted, passed_over: Counter[str]
) -> Iterator[_Row]:
    """A row for each recording of the wanted studies."""
    columns = file.places(wanted.columns)
    num_rows = num_kept = 0
    for number, fields in file.rows:
        num_rows += 1
        cells = file.with_numbers(named(fields, columns), wanted.targets)
        place = f"row {number} of {name}"
        try:
            file.check_width(fields)
            row = _row(cells, place, split, audio, wanted)
        except ClipError as error:
            reject = replace(error.reject, place=place)
            clip = ClipRow(clip_id=cells.get(wanted.name) or place, uri="", reject=reject)
            row = _Row(clip=clip, place=place)
        if row:
            num_kept += 1
            yield row
    if not num_rows:
        raise UserError(f"{file.shown_as} has a header and no rows: wanted one row per recording")
    if num_kept < num_rows:
        passed_over[OTHER_STUDY] += num_rows - num_kept
        logger.info("%s: data.studies leaves out %d recordings", file.shown_as, num_rows - num_kept)


def _row(cells: Mapping[str, str], place: str, split: str, audio: Recordings, wanted: _Wanted) -> _Row | None:
    """The clip of a row; None in a study that is not asked for; ClipError says what is wrong with it."""
    if not cells[wanted.name]:
        raise ClipError(f"{wanted.name} is empty")
    recording = audio.find(cells[wanted.name], study=cells.get(wanted.study, ""))
    if recording is None:
        return None
    speaker = cells.get(wanted.speaker, "")
    if wanted.speaker and not speaker and wanted.task != "none":
        raise ClipError(f"{wanted.speaker} is empty")
    clip = ClipRow(
        clip_id=recording.path,
        uri=recording.uri,
        speaker=speaker,
        split=split,
        targets=targets_of(cells, wanted.targets, wanted.task),
        extra_cells=tuple(cells[name] for name in wanted.extra_columns),
    )
    return _Row(clip=clip, place=place, metadata=recording.metadata)


def _refuse_twice(rows: Sequence[_Row]) -> None:
    places: dict[str, list[str]] = {}
    for row in rows:
        if not row.clip.reject:
            places.setdefault(row.clip.clip_id, []).append(row.place)
    twice = [
        f"{clip_id} ({', '.join(places_of)})" for clip_id, places_of in places.items() if len(places_of) > 1
    ]
    if twice:
        raise UserError(
            f"{len(twice)} recordings are listed more than once in train.csv, val.csv and test.csv: {quoted(twice)}; "
            "keep one row of each"
        )


def _with_speakers(rows: Sequence[_Row], data: DataConfig) -> list[ClipRow]:
    """The clips, those without a speaker named by their metadata.json or counted as their own speaker."""
    todo = {i: row for i, row in enumerate(rows) if not row.clip.reject and not row.clip.speaker}
    speakers = recordings.speakers_in([row.metadata for row in todo.values() if row.metadata], data)
    clips = [row.clip for row in rows]
    num_alone = 0
    for i, row in todo.items():
        speaker = speakers.get(row.metadata, "")
        if isinstance(speaker, Reject):
            clips[i] = replace(row.clip, reject=replace(speaker, place=row.place))
            continue
        num_alone += not speaker
        clips[i] = replace(row.clip, speaker=speaker or row.clip.clip_id)
    if num_alone:
        logger.warning(
            "%d of %d recordings have no speaker, neither a column %r nor that key in metadata.json: each counts "
            "as a speaker of its own, so one person may be in two splits; set --data.speaker_column",
            num_alone, len(rows), data.speaker_column,
        )  # fmt: skip
    return clips
