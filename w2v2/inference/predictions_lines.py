"""Predictions as lines for a terminal, where there are few."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from w2v2.inference.predictions_table import output_columns
from w2v2.models.model_info import ModelInfo

NUM_LINES = 20
"""Up to so many recordings have a line each."""
MAX_WINDOWS = 60


def lines_of(rows: pa.Table, info: ModelInfo) -> list[str]:
    """A line for each row of predictions_table.rows_of: the clip, its seconds and the prediction.

    Only the first MAX_WINDOWS windows are shown, and the number of the others.
    """
    shown = list(_lines(rows.slice(0, MAX_WINDOWS).to_pylist(), info))
    return shown + ([f"... and {len(rows) - MAX_WINDOWS} more rows"] if len(rows) > MAX_WINDOWS else [])


def _lines(rows: list[dict[str, Any]], info: ModelInfo) -> Iterator[str]:
    width = max((len(row["clip_id"]) for row in rows), default=0)
    for row in rows:
        yield f"{row['clip_id']:<{width}}  {row['start_s']:7.2f} to {row['end_s']:7.2f} s  {_predicted(row, info)}"


def _predicted(row: Mapping[str, Any], info: ModelInfo) -> str:
    if info.kind == "transcript":
        confidence = row["confidence"]  # None where nothing is written
        return f"{row['text']} ({confidence:.2f})" if confidence is not None else "(no text)"
    values = [(row[column], name) for column, name in zip(output_columns(info), info.names, strict=True)]
    if info.kind == "classes":
        first, *rest = sorted(values, reverse=True)
        runners_up = ", ".join(f"{name} {value:.2f}" for value, name in rest[:2])
        return f"{first[1]} {first[0]:.2f}" + (f" ({runners_up})" if runners_up else "")
    return ", ".join(f"{name} {value:.2f}" for value, name in values)
