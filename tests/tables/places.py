"""Where the tables of these tests are, and rows for them."""

import datetime
import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.cloud.bigquery import FakeBigQuery
from tests.cloud.gcs import FakeGcs

DIM = 3


KINDS = ("duckdb", "parquet", "parquet-gs", "bigquery", "bigquery-local")


@dataclass
class Place:
    """A table's uri, a folder for its parts, and the servers behind them."""

    kind: str
    uri: str
    parts: str
    gcs: FakeGcs
    bigquery: FakeBigQuery


def make_place(kind: str, folder: Path, servers: tuple[FakeGcs, FakeBigQuery]) -> Place:
    uris = {
        "duckdb": f"duckdb://{folder}/sub/file.db?table=embeddings",
        "parquet": f"{folder}/table",
        "parquet-gs": "gs://bucket/tables/one",
        "bigquery": "bq://my-project.speech.embeddings",
        "bigquery-local": "bq://my-project.speech.embeddings",
    }
    remote = kind in ("parquet-gs", "bigquery")
    return Place(kind, uris[kind], "gs://bucket/run/parts" if remote else f"{folder}/run/parts", *servers)


@functools.cache
def make_spec() -> Any:
    from w2v2.tables.spec import embeddings_spec

    return embeddings_spec(extra_columns=["label"])


def at(minute: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC) + datetime.timedelta(minutes=minute)


def make_rows(
    clips: range,
    *,
    minute: int = 0,
    model: str = "a",
    audio: str = "x",
    dim: int = DIM,
    windows: int = 1,
) -> pa.Table:
    """Rows whose vectors follow from clip, model and audio, as those of an encoder do."""
    rows = []
    for clip, window in itertools.product(clips, range(windows)):
        rng = np.random.default_rng([clip, ord(model), ord(audio), window])
        rows.append(
            {
                "clip_id": f"clip'{clip}",
                "model": model,
                "model_digest": f"sha-{model}",
                "pooling": "mean",
                "layer": "last",
                "start_s": clip % 2 / 10 + window,
                "end_s": None if clip % 3 else 1.5,
                "dim": dim,
                "embedding": rng.standard_normal(dim).astype(np.float32).tolist(),
                "uri": f"gs://b/{clip}.wav",
                "checksum": f"{audio}{clip}",
                "sample_rate": 16_000,
                "duration_s": 1.5,
                "label": 'angry "`;--' if clip % 2 else None,
                "run_id": f"run{minute}",
                "code_version": "1",
                "created_at": at(minute),
            }
        )
    return pa.Table.from_pylist(rows, schema=make_spec().schema)


def write(place: Place, *tables: pa.Table) -> list[str]:
    from w2v2.tables.parts import write_part

    return [write_part(place.parts, table, spec=make_spec()) for table in tables]


def fold(*tables: pa.Table) -> list[dict[str, Any]]:
    """What a table holds after any commits of these rows: the newest of each clip, model and layer, in order."""
    newest: dict[tuple[Any, ...], dict[float, dict[str, Any]]] = {}
    for table in tables:
        for row in table.to_pylist():
            newest_rows = newest.setdefault(
                tuple(row[n] for n in ("clip_id", "model", "pooling", "layer")), {}
            )
            if any(other["created_at"] < row["created_at"] for other in newest_rows.values()):
                newest_rows.clear()
            if all(other["created_at"] == row["created_at"] for other in newest_rows.values()):
                newest_rows[row["start_s"]] = row
    return [
        newest_rows[start_s] for _, newest_rows in sorted(newest.items()) for start_s in sorted(newest_rows)
    ]


def rows_of(table: Any) -> list[dict[str, Any]]:
    rows = table.read().to_pylist()
    return sorted(rows, key=lambda row: [row[name] for name in make_spec().key])


def counts(commit: Any) -> tuple[int, int, int, int]:
    return commit.inserted, commit.replaced, commit.unchanged, commit.stale


def changed(column: str, values: list[Any]) -> pa.Table:
    rows = make_rows(range(len(values)))
    index = rows.column_names.index(column)
    return rows.set_column(index, rows.schema.field(column), pa.array(values, rows.schema.field(column).type))
