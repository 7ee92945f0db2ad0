import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from w2v2.data import groups
from w2v2.data.groups import among, dictionary_encoded, places_of


def names(seed: int, num: int) -> pa.ChunkedArray:
    """Names of which some come several times and some are null, in three chunks."""
    numbers = np.random.default_rng(seed).integers(num // 2, size=num)
    texts = pa.array([f"name {n}" if n % 11 else None for n in numbers.tolist()])
    return pa.chunked_array([texts.slice(0, 3), texts.slice(3, 40), texts.slice(43)])


@pytest.mark.parametrize("hashes", ["apart", "all the same"])
def test_places_are_those_that_arrow_finds(monkeypatch, hashes):
    monkeypatch.setattr(groups, "_NAMES_AT_ONCE", 30)
    if hashes == "all the same":
        monkeypatch.setattr(groups, "hashes_of", lambda of: np.zeros(len(of), np.int64))
    wanted, others = names(0, 200), names(1, 150)
    expected = pc.fill_null(pc.index_in(wanted, value_set=others.combine_chunks()), -1)
    places = places_of(wanted, others)
    assert places.tolist() == expected.to_pylist() and {-1, 0} <= set(places.tolist())
    assert places_of(wanted, others.slice(0, 0)).tolist() == [-1] * len(wanted)
    assert places_of(wanted.slice(0, 0), others).tolist() == []


def test_what_is_chosen_as_a_whole_is_not_copied():
    column, table = names(0, 50), pa.table({"name": names(0, 50)})
    everything = pa.array([True] * 50)
    assert among(column, everything) is column and among(table, everything) is table
    every_second = pa.array([True, False] * 25)
    assert among(column, every_second).equals(column.filter(every_second)) and among(
        table, every_second
    ).equals(table.filter(every_second))


def test_names_that_are_numbered_are_the_names():
    column = names(0, 50)
    encoded = dictionary_encoded(column)
    assert encoded.to_pylist() == column.to_pylist() and encoded.indices.type == pa.int32()
    assert dictionary_encoded(pa.chunked_array([encoded])).equals(encoded)
