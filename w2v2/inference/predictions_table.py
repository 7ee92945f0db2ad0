"""Predictions where a user wants them: a CSV file, or a table in BigQuery, DuckDB or Parquet, exactly once."""

import csv
import datetime
import io
from collections.abc import Sequence

import pyarrow as pa

from w2v2.config.finetune import PredictConfig
from w2v2.inference.prediction_records import ClipPrediction
from w2v2.models.model_info import ModelInfo
from w2v2.storage import files as storage
from w2v2.tables import table as tables
from w2v2.tables.parts import write_part
from w2v2.tables.spec import TIMESTAMP, TableSpec
from w2v2.versions import W2V2


def spec_of(info: ModelInfo) -> TableSpec:
    """One row per clip and window: what the model says, in a column for each output."""
    text, number = pa.string(), pa.float64()
    columns = [("clip_id", text), ("model", text), ("start_s", number), ("end_s", number), ("uri", text)]
    columns += [("predicted", text)] if info.kind == "classes" else []
    columns += [(name, number) for name in output_columns(info)]
    columns += [("code_version", text), ("created_at", TIMESTAMP)]
    return TableSpec(
        schema=pa.schema(columns),
        key=("clip_id", "model", "start_s"),
        group=("clip_id", "model"),
        cluster_by=("model", "clip_id"),
        partition_by="created_at",
    )


def output_columns(info: ModelInfo) -> list[str]:
    """The names of the columns of what the model says."""
    prefix = "pred" if info.kind == "regression" else "prob"
    return [f"{prefix}_{name}" for name in info.names]


def rows_of(clips: pa.Table, said: Sequence[ClipPrediction], info: ModelInfo, digest: str) -> pa.Table:
    """The rows of the clips that could be used; said has one for every clip."""
    uris = dict(zip(clips["clip_id"].to_pylist(), clips["uri"].to_pylist(), strict=True))
    now = datetime.datetime.now(datetime.UTC)
    rows = []
    for one in said:
        if one.reject:
            continue
        assert one.values is not None  # as of every clip that is no reject
        for (start_s, end_s), values in zip(one.spans, one.values, strict=True):
            row = {"clip_id": one.clip_id, "model": digest, "start_s": start_s, "end_s": end_s}
            row |= {"uri": uris[one.clip_id], "code_version": W2V2, "created_at": now}
            row |= {"predicted": info.names[int(values.argmax())]} if info.kind == "classes" else {}
            rows.append(row | dict(zip(output_columns(info), map(float, values), strict=True)))
    return pa.Table.from_pylist(rows, schema=spec_of(info).schema)


def open_place(config: PredictConfig, info: ModelInfo) -> tables.Table | None:
    """The table that config.table names, made where it is missing; None for a CSV file.

    Raises UserError where predictions of this model cannot be written there.
    """
    spec = spec_of(info)
    return None if config.table.endswith(".csv") else tables.open_table(config.table, spec)


def write_rows(config: PredictConfig, rows: pa.Table, info: ModelInfo) -> None:
    """Write the rows to config.table: a CSV whole, a table exactly once."""
    table = open_place(config, info)
    if table is None:
        storage.write_bytes(config.table, to_csv(rows.drop_columns(["created_at", "code_version"])))
    elif len(rows):
        table.commit([write_part(storage.join(config.run, "parts"), rows, spec=spec_of(info))])


def to_csv(rows: pa.Table) -> bytes:
    """A CSV in UTF-8 with a header; numbers so that they read back the same."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(rows.column_names)
    writer.writerows(row.values() for row in rows.to_pylist())
    return sink.getvalue().encode()
