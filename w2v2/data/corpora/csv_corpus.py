"""A table with a row per clip, CSV, Parquet or a spreadsheet: any corpus."""

import itertools
import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from w2v2.config.data import DataConfig
from w2v2.data.corpora.label_table import LabelTable, named, open_table
from w2v2.data.corpora.labels_file import read_labels_file
from w2v2.data.corpora.rows import ClipRow, CorpusRows, Groups, Labels, grouped, resolved, targets_of
from w2v2.errors import ClipError, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The columns that are read of each row."""

    data: DataConfig
    task: Labels
    targets: tuple[str, ...]
    extra_columns: Sequence[str]


def read_csv(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """A clip for each row that is not blank, in order. Raises UserError for missing columns.

    All labels of a multi_label task are one head, or those of each line of data.labels_file; each value of a
    regression is a head of its own.
    """
    uri = storage.expand(data.uri)
    file = open_table(uri, shown_as=f"data.uri {uri}", sheet=data.sheet)
    data = _as_audformat(file, data)
    heads = _heads(data, uri, task)
    targets = tuple(name for head in heads for name in head) or _target_columns(file, data, task)
    rows = _rows(file, uri, _Wanted(data=data, task=task, targets=targets, extra_columns=extra_columns))
    first = next(rows, None)
    if first is None:
        raise UserError(f"{file.shown_as} has a header and no rows: wanted one row per clip")
    return CorpusRows(rows=itertools.chain([first], rows), groups=heads or grouped(targets, task))


def _heads(data: DataConfig, uri: str, task: Labels) -> Groups:
    """The labels of each line of data.labels_file; none where it is not set."""
    if not data.labels_file or task == "none":
        return ()
    if task != "multi_label":
        raise UserError(
            f"data.labels_file is for task.kind=multi_label where clips are in a table, got task.kind={task}: leave it out"
        )
    heads = read_labels_file(resolved(data.labels_file, uri.rpartition("/")[0]))
    names = [name for head in heads for name in head]
    if data.target_columns and set(names) != set(data.target_columns):
        raise UserError(
            f"data.labels_file names {quoted(names)}, data.target_columns {quoted(data.target_columns)}: give one of the two"
        )
    return heads


def _as_audformat(file: LabelTable, data: DataConfig) -> DataConfig:
    """The settings with audformat's names of columns, where the file has these columns and not the default ones."""
    theirs = {"uri_column": "file", "start_column": "start", "end_column": "end"}
    renamed: dict[str, Any] = {
        flag: name
        for flag, name in theirs.items()
        if getattr(data, flag) == getattr(DataConfig, flag)
        and getattr(data, flag) not in file.header
        and name in file.header
    }
    if renamed:
        logger.info("%s: columns %s are read as audformat's", file.shown_as, ", ".join(renamed.values()))
    return replace(data, **renamed)


def _target_columns(file: LabelTable, data: DataConfig, task: Labels) -> tuple[str, ...]:
    targets = data.target_columns
    if task == "none":
        return ()
    if task == "classes":
        if targets:
            raise UserError(
                f"data.target_columns ({quoted(targets)}) is for several labels or values, got task.kind=classes: "
                "set --task.kind multi_label or regression, or --data.label_column"
            )
        return ()
    if task == "transcript":
        if targets:
            raise UserError(
                f"data.target_columns ({quoted(targets)}) is for several labels or values, got task.kind=transcript: "
                "set --data.text_column to the column of the text"
            )
        return ()
    if not targets:
        raise UserError(
            f"data.target_columns is empty, but task.kind={task} wants the columns of its "
            f"{'labels' if task == 'multi_label' else 'values'}: set --data.target_columns to some of "
            f"{quoted(file.header) or 'none'}, the columns of {file.shown_as}"
        )
    if double := [name for name in targets if targets.count(name) > 1]:
        raise UserError(f"data.target_columns names {double[0]!r} twice: name each column once")
    return targets


def _columns(file: LabelTable, wanted: _Wanted) -> dict[str, int]:
    """Positions in a row of the columns that are used."""
    data = wanted.data
    flags = ["uri_column"]
    optional = ["id_column", "start_column", "end_column", "split_column"]
    match wanted.task:
        case "none":
            optional += ["label_column", "speaker_column"]
        case "classes":
            flags += ["label_column", "speaker_column"]
        case "transcript":
            flags += ["text_column", "speaker_column"]
        case _:
            flags += ["speaker_column"]
    # A column that the user named must be there; one that has its default name may be missing.
    flags += [flag for flag in optional if getattr(data, flag) != getattr(DataConfig, flag)]
    missing = [flag for flag in flags if getattr(data, flag) not in file.header]
    for flag in missing:
        file.need(getattr(data, flag), "set " + ", ".join(f"--data.{flag}" for flag in missing))
    for name in wanted.targets:
        file.need(name, "set --data.target_columns")
    file.need_columns(wanted.extra_columns)
    return file.places(
        [*(getattr(data, flag) for flag in flags + optional), *wanted.targets, *wanted.extra_columns]
    )


def _rows(file: LabelTable, uri: str, wanted: _Wanted) -> Iterator[ClipRow]:
    columns, data = _columns(file, wanted), wanted.data
    numbers = (data.start_column, data.end_column, *wanted.targets)
    folder = uri.rpartition("/")[0]
    for number, fields in file.rows:
        cells = file.with_numbers(named(fields, columns), numbers)
        try:
            file.check_width(fields)
            yield _clip(cells, folder, wanted)
        except (ClipError, storage.StorageError) as error:
            clip_id = cells.get(data.id_column) or cells.get(data.uri_column) or f"row {number}"
            reject = replace(error.reject, place=f"row {number}")
            yield ClipRow(clip_id=clip_id, uri=cells.get(data.uri_column, ""), reject=reject)


def _clip(cells: dict[str, str], folder: str, wanted: _Wanted) -> ClipRow:
    """The clip of one row; ClipError or StorageError says what is wrong with it."""
    data, task = wanted.data, wanted.task
    needed = [data.id_column, data.uri_column]
    needed += [data.label_column] if task == "classes" else []
    needed += [data.speaker_column] if task != "none" else []
    empty = [column for column in needed if cells.get(column) == ""]
    if empty:
        raise ClipError(f"{empty[0]} is empty")
    start_s = _seconds(cells, data.start_column, default=0.0)
    end_s = _seconds(cells, data.end_column, default=math.inf)
    if not start_s < end_s:
        raise ClipError(
            "bad segment", f"{data.end_column} {end_s:g} is not behind {data.start_column} {start_s:g}"
        )
    written = cells[data.uri_column]
    # The way media fragments are written: a.wav#t=1.5,3.25
    segment = "" if (start_s, end_s) == (0.0, math.inf) else f"#t={start_s!r},{end_s!r}"
    return ClipRow(
        clip_id=cells.get(data.id_column, f"{written}{segment}"),
        uri=resolved(written, folder),
        start_s=start_s,
        end_s=end_s,
        speaker=cells.get(data.speaker_column, ""),
        split=cells.get(data.split_column, ""),
        label=cells.get(data.label_column, "") if task in ("classes", "none") else "",
        text=cells.get(data.text_column, "") if task == "transcript" else "",
        targets=targets_of(cells, wanted.targets, task),
        extra_cells=tuple(cells[name] for name in wanted.extra_columns),
    )


def _seconds(cells: dict[str, str], column: str, *, default: float) -> float:
    text = cells.get(column, "")
    if text == "NaT":  # audformat: the end of the file
        text = ""
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = _of_timedelta(text)
    if not seconds >= 0:
        raise ClipError("bad segment", f"{column} is {text!r}, wanted seconds, 0 or more")
    return seconds


def _of_timedelta(text: str) -> float:
    """Seconds of '0 days 00:01:02.5', '00:01:02.5' or '0 days', as pandas and audformat write them; NaN for anything else."""
    time_of_day = r"\+?(\d+):(\d\d):(\d\d(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:(\d+) days? )?{time_of_day}|(\d+) days?", text)
    if not match:
        return math.nan
    if match[5]:
        return 86_400 * float(match[5])
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups()[:4])
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
