"""The clips of a manifest as a CSV that the user can check and edit, and that is read back to the same clips."""

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.data import DataConfig
from w2v2.config.digest import plain
from w2v2.data.corpora.rows import Labels
from w2v2.data.manifest import Manifest
from w2v2.storage.csv_text import to_csv

D = TypeVar("D", bound=DataConfig)

_KEPT_SETTINGS = ("slice_columns", "max_reject_fraction", "num_readers")
"""Settings that mean the same whatever the layout."""


def clips_csv(corpus: Manifest, *, task: Labels, extra_columns: Sequence[str] = ()) -> tuple[bytes, int]:
    """The CSV, and the number of clips left out because no cell of a CSV can hold their names.

    Columns: clip_id, uri (absolute), label, the targets by their own names or text, speaker, split, fold, start_s and
    end_s where clips are segments, and the columns of `extra_columns`. Columns without a value are left out.
    """
    clips = corpus.clips
    targets = [name for group in corpus.groups for name in group]
    learned = {"classes": ["label"], "none": ["label"], "transcript": ["text"]}.get(task, [])
    columns: dict[str, pa.ChunkedArray | pa.Array | list[float]] = {
        name: clips[name] for name in ("clip_id", "uri", *learned)
    }
    columns |= {name: clips[f"target_{name}"] for name in targets}
    columns |= {name: clips[name] for name in ("speaker", "split", "fold") if name in clips.column_names}
    start_s, end_s = clips["start_s"].to_pylist(), clips["end_s"].to_pylist()
    if any(start_s) or any(map(math.isfinite, end_s)):
        columns["start_s"] = start_s
        columns["end_s"] = pa.array([s if math.isfinite(s) else None for s in end_s], pa.float64())
    columns |= {name: clips[name] for name in extra_columns}
    table = pa.table(columns)
    filled = [name for name in table.column_names if name in ("clip_id", "uri") or _has_value(table[name])]
    can = [all(map(_is_cell, row.values())) for row in table.to_pylist()]
    return to_csv(table.select(filled).filter(pa.array(can, pa.bool_()))), can.count(False)


def _has_value(column: pa.ChunkedArray) -> bool:
    if pa.types.is_string(column.type):
        return bool(pc.any(pc.not_equal(column, "")).as_py())
    return column.null_count < len(column)


def _is_cell(value: object) -> bool:
    """Whether a CSV returns the value unchanged: one line, no spaces around it, and no apostrophe that a spreadsheet drops."""
    if not isinstance(value, str):
        return True
    return (
        value == value.strip()
        and not {"\n", "\r", "\0"} & set(value)
        and not value.startswith(("'=", "'+", "'-", "'@"))
    )


def read_back(data: D, corpus: Manifest, uri: str, *, labels_uri: str = "") -> D:
    """The settings that read the CSV at uri to the same clips; labels_uri is the file of the heads where they are several."""
    targets = tuple(name for group in corpus.groups for name in group)
    heads = {"labels_file": labels_uri} if labels_uri else {"target_columns": targets}
    kept = {name: getattr(data, name) for name in _KEPT_SETTINGS}
    return replace(type(data)(uri=uri, layout="csv"), **heads, **kept)


def flags(before: DataConfig, now: DataConfig) -> str:
    """The command-line flags that turn the first settings into the second."""
    return " ".join(_flags(before, now))


def _flags(before: DataConfig, now: DataConfig) -> Iterator[str]:
    for field in fields(now):
        old, new = getattr(before, field.name), getattr(now, field.name)
        if old != new:
            value = plain(new)
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"--data.{field.name} {shlex.quote(text)}"
