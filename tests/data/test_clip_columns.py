import pickle
import random

import pyarrow as pa
import pytest

from w2v2.data import clip_columns
from w2v2.data.clip_columns import TablesInOrder, TextColumn, text_array
from w2v2.storage import mapped_tables

SCHEMA = pa.schema([("clip_id", pa.string()), ("number", pa.int64())])


@pytest.fixture(params=[False, True], ids=["in memory", "on disk"])
def held_bytes(request, monkeypatch):
    monkeypatch.setattr(mapped_tables, "HELD_BYTES", 0 if request.param else 2**24)
    monkeypatch.setattr(clip_columns, "JOINED_CLIPS", 10)


def portion(number: int, num: int) -> pa.Table:
    return pa.table({"clip_id": [f"{number}-{n}" for n in range(num)], "number": [number] * num}, SCHEMA)


def test_tables_that_come_in_any_order_are_joined_in_that_of_their_numbers(held_bytes):
    tables = [portion(number, num) for number, num in enumerate([3, 0, 7, 4, 1, 9, 2])]
    numbers = list(range(len(tables)))
    random.Random(0).shuffle(numbers)
    joined = TablesInOrder(SCHEMA)
    for number in numbers:
        joined.add(number, tables[number])
    assert joined.all().equals(pa.concat_tables(tables))


def test_no_tables_are_a_table_without_rows(held_bytes):
    assert TablesInOrder(SCHEMA).all().equals(SCHEMA.empty_table())


def test_a_table_that_never_came_is_no_gap(held_bytes):
    joined = TablesInOrder(SCHEMA)
    joined.add(1, portion(1, 2))
    with pytest.raises(AssertionError):
        joined.all()


def test_a_text_column_is_the_list_of_its_texts():
    texts = ["a", "ü", "", "b"] * 700
    column = TextColumn(pa.array(texts))
    assert list(column) == texts and column == texts and column == TextColumn(pa.array(texts))
    assert (column[1], column[-1], column[1:7:2]) == ("ü", "b", texts[1:7:2])
    assert column != texts[:-1] and column != [*texts[:-1], "c"] and column != "a"
    assert pickle.loads(pickle.dumps(column)) == texts
    assert text_array(column) is column.array and text_array(texts).equals(column.array)
    with pytest.raises(IndexError):
        column[len(texts)]
