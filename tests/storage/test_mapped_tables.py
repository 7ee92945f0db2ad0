import gc
import os
import tempfile

import numpy as np
import pyarrow as pa
import pytest

from w2v2.storage import mapped_tables, run_directory
from w2v2.storage.mapped_tables import array_on_disk, on_disk, whole
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet

NUM = 100_000


def rows() -> pa.Table:
    numbers = np.arange(NUM)
    columns = {
        "clip_id": pa.array([f"{n:032d}" for n in numbers]),
        "label": pa.array(["calm", "sad"] * (NUM // 2)).dictionary_encode(),
        "target_a.b": pa.array(numbers / 3, mask=numbers % 7 == 0),
        "spans": pa.array([[0.0, 1.5]] * NUM),
        "note": pa.nulls(NUM, pa.string()),
    }
    table = pa.table(columns)
    portions = pa.concat_tables([table.slice(0, 11), table.slice(11)])
    return portions.replace_schema_metadata({"kept": "yes"})


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """An empty folder for temporary files, where tables are mapped from a megabyte on."""
    monkeypatch.setattr(mapped_tables, "HELD_BYTES", 2**20)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_large_table_is_the_same_on_the_disk_and_takes_no_memory(temporary):
    table = rows()
    before = pa.total_allocated_bytes()
    mapped = on_disk(table)
    assert pa.total_allocated_bytes() - before < table.nbytes / 100
    assert mapped.schema.equals(table.schema, check_metadata=True) and mapped.equals(table)
    assert all(column.num_chunks == 1 for column in mapped.columns)
    del table
    gc.collect()
    assert mapped["clip_id"][NUM - 1].as_py() == f"{NUM - 1:032d}"
    assert list(temporary.iterdir()) == []  # the files have no name once they are mapped


def test_a_small_table_stays_in_memory(monkeypatch):
    monkeypatch.setattr(mapped_tables, "from_columns", None)  # which would fail
    table = rows().slice(0, 100)
    assert on_disk(table).equals(table)


def test_without_room_a_table_stays_in_memory_with_a_warning(temporary, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    table = rows()
    assert on_disk(table).equals(table)
    [record] = caplog.records
    assert "/proc/nowhere has no room for them" in record.getMessage()


@pytest.mark.parametrize("schema", [None, pa.schema([("clip_id", pa.string()), ("new", pa.float64())])])
def test_large_parquet_is_read_onto_the_disk_as_it_is_in_memory(temporary, monkeypatch, schema):
    data = to_parquet(rows(), sealed=True)
    before = pa.total_allocated_bytes()
    mapped = parse_parquet("x", data, schema)
    assert pa.total_allocated_bytes() - before < 2**20
    monkeypatch.setattr(mapped_tables, "HELD_BYTES", 2**40)
    held = parse_parquet("x", data, schema)
    assert mapped.schema.equals(held.schema, check_metadata=True) and mapped.equals(held)


def test_a_table_of_a_run_is_read_back_from_the_disk(tmp_path, temporary):
    written = rows()
    run_directory.write_table(str(tmp_path), "manifest", written)
    before = pa.total_allocated_bytes()
    table = run_directory.read_table(str(tmp_path), "manifest")
    assert table.equals(written) and pa.total_allocated_bytes() - before < 2**20
    assert os.listdir(temporary) == []


def test_an_array_is_the_same_on_the_disk(temporary, monkeypatch, caplog):
    array = np.random.default_rng(0).standard_normal((7, 3)).T
    mapped = array_on_disk(array)
    assert isinstance(mapped, np.memmap) and np.array_equal(mapped, array) and mapped.dtype == array.dtype
    assert os.listdir(temporary) == []
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    assert array_on_disk(array) is array and "has no room" in caplog.text


def test_a_column_in_one_chunk_is_not_copied():
    column = rows()["clip_id"]
    assert whole(column).equals(column.combine_chunks())
    one = pa.chunked_array([whole(column)])
    before = pa.total_allocated_bytes()
    array = whole(one)
    assert pa.total_allocated_bytes() == before and array.equals(one.chunk(0))
