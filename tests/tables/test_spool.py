"""Rows on the local disk, looked up by a column."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from w2v2.inference.extraction import DONE
from w2v2.tables import spool as spools
from w2v2.tables.spec import TIMESTAMP
from w2v2.tables.spool import spool_in

SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64()), ("created_at", TIMESTAMP)])


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_rows_are_those_that_a_filter_of_all_gives(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(spools, "ROWS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    now = datetime.datetime.now(datetime.UTC)
    rows = pa.table(
        {
            "name": [f"it's {n} ü" for n in rng.integers(0, 20, 100)],
            "number": rng.integers(0, 9, 100),
            "created_at": pa.array([now] * 99 + [None], TIMESTAMP),
        },
        schema=SCHEMA,
    )
    with spool_in(tmp_path) as spool:
        table = spool.table("rows", SCHEMA)
        for at in range(0, 100, 10):
            table.add(rows.slice(at, 10))
        wanted = pa.array(["it's 3 ü", "it's 3 ü", "it's 11 ü", "another"])
        matching = table.among("name", wanted)
        expected = rows.filter(pc.is_in(rows["name"], wanted))
        order = [("name", "ascending"), ("number", "ascending"), ("created_at", "ascending")]
        assert len(expected) and matching.sort_by(order).equals(expected.sort_by(order))
        assert len(table.among("name", pa.array([], pa.string()))) == 0


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_a_lookup_reads_few_of_the_rows_whatever_their_order(tmp_path, monkeypatch, is_shuffled):
    monkeypatch.setattr(spools, "ROWS_AT_ONCE", 10)
    names = np.array([f"gs://bucket/with/a/long/prefix/{n:04d}" for n in range(300)])
    order = np.random.default_rng(0).permutation(300) if is_shuffled else np.arange(300)
    rows = pa.table({"name": names[order], "number": order, "created_at": pa.nulls(300, TIMESTAMP)}).cast(
        SCHEMA
    )
    with spool_in(tmp_path) as spool:
        table = spool.table("rows", SCHEMA)
        for at in range(0, 300, 15):
            table.add(rows.slice(at, 15))
        for at in range(0, 300, 25):
            wanted = pa.array(names[at : at + 25])
            assert sorted(table.among("name", wanted)["number"].to_pylist()) == [*range(at, at + 25)]
            assert len(table._blocks_of("name").overlapping(wanted)) <= 5
        table.add(rows.slice(0, 15))  # rows after a look-up
        assert len(table.among("name", pa.array(names))) == 315


def test_a_table_of_the_same_name_begins_empty(tmp_path):
    with spool_in(tmp_path) as spool:
        row = pa.Table.from_pylist([dict.fromkeys(DONE.names)], schema=DONE).set_column(
            0, "clip_id", pa.array(["a"])
        )
        spool.table("done", DONE).add(row)
        again = spool.table("done", DONE)
        assert again.among("clip_id", pa.array(["a"])).equals(DONE.empty_table())
