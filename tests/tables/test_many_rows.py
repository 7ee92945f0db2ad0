"""Commits of more rows than DuckDB keeps in one group (122,880): its joins have missed all of them."""

from pathlib import Path

import pyarrow as pa
import pytest

from tests.tables.places import make_rows, make_spec
from w2v2.tables.parts import write_part
from w2v2.tables.spec import Commit
from w2v2.tables.table import open_table

NUM_ROWS = 130_000


@pytest.mark.parametrize("kind", ["duckdb", "parquet"])
def test_all_rows_are_committed_once(tmp_path: Path, kind: str) -> None:
    few = make_rows(range(10))
    rows = few.take([number % 10 for number in range(NUM_ROWS)])
    names = pa.array([f"clip {number}" for number in range(NUM_ROWS)])
    rows = rows.set_column(rows.column_names.index("clip_id"), "clip_id", names)
    parts = [
        write_part(str(tmp_path / "parts"), rows.slice(at, 26_000), spec=make_spec())
        for at in range(0, NUM_ROWS, 26_000)
    ]
    uri = f"duckdb://{tmp_path}/a.db?table=a" if kind == "duckdb" else str(tmp_path / "table")
    table = open_table(uri, make_spec())
    assert table.commit(parts) == Commit(inserted=NUM_ROWS)
    assert table.commit(parts) == Commit(unchanged=NUM_ROWS)
    assert set(table.read(["clip_id"])["clip_id"].to_pylist()) == set(names.to_pylist())
