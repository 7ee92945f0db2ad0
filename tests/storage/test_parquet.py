"""Records of many workers, joined into few."""

import logging
from pathlib import Path

import pyarrow as pa
import pytest

from w2v2.storage import parquet
from w2v2.storage.parquet import join_records, records, write_record

SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64())])


def rows_of(folder: Path) -> pa.Table:
    read = records(str(folder), SCHEMA, num_at_once=4)
    return pa.concat_tables([SCHEMA.empty_table(), *read]).sort_by("number")


@pytest.mark.parametrize("at_once, files", [(1000, 1), (6, 6), (4, 8)])
def test_joined_records_have_the_rows_of_all(tmp_path, monkeypatch, at_once, files):
    monkeypatch.setattr(parquet, "MANY_RECORDS", 5)
    monkeypatch.setattr(parquet, "JOINED_ROWS", at_once)
    rows = pa.table({"name": [f"n{n}" for n in range(32)], "number": range(32)}, schema=SCHEMA)
    for at in range(0, 32, 2):
        write_record(str(tmp_path), rows.slice(at, 2))
    join_records(str(tmp_path), SCHEMA, num_at_once=4)
    assert len(list(tmp_path.iterdir())) == files
    assert rows_of(tmp_path).equals(rows)


def test_few_records_stay_and_damaged_ones_are_left_alone(tmp_path, monkeypatch, caplog):
    rows = pa.table({"name": ["a", "b", "c"], "number": [0, 1, 2]}, schema=SCHEMA)
    for at in range(3):
        write_record(str(tmp_path), rows.slice(at, 1))
    names = sorted(tmp_path.iterdir())
    join_records(str(tmp_path), SCHEMA, num_at_once=1)
    assert sorted(tmp_path.iterdir()) == names
    join_records(str(tmp_path / "missing"), SCHEMA, num_at_once=1)
    monkeypatch.setattr(parquet, "MANY_RECORDS", 2)
    names[0].write_bytes(names[0].read_bytes()[:-9])
    with caplog.at_level(logging.WARNING):
        join_records(str(tmp_path), SCHEMA, num_at_once=1)
    assert names[0].exists() and len(list(tmp_path.iterdir())) == 2 and "is done again" in caplog.text
    assert len(rows_of(tmp_path)) == 2
