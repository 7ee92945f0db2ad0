"""Names of groups of clips, such as speakers, as numbers."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, Shaped

from w2v2.data.clip_columns import CLIPS_AS_OBJECTS, text_array
from w2v2.storage.mapped_tables import whole

T = TypeVar("T")
Rows = TypeVar("Rows", pa.Array, pa.ChunkedArray, pa.Table)
Names: TypeAlias = Sequence[str] | Shaped[np.ndarray, " clips"] | pa.ChunkedArray
"""The name of each clip's group."""
_NAMES_AT_ONCE = 50_000
"""Names whose places are looked up together."""


def numbered(names: Names) -> tuple[Shaped[np.ndarray, " groups"], Int[np.ndarray, " clips"]]:
    """The different names in order, and the number of each clip's name among them: as np.unique, without sorting all clips.

    >>> numbered(["b", "a", "b"])
    (array(['a', 'b'], dtype='<U1'), array([1, 0, 1]))
    """
    encoded = pc.dictionary_encode(name_array(names))
    different, number = np.unique(np.array(encoded.dictionary.to_pylist(), np.str_), return_inverse=True)
    return different, number[encoded.indices.to_numpy()]


def name_array(names: Names) -> pa.Array:
    """The names as one Arrow array, which they may be already."""
    return whole(names) if isinstance(names, pa.ChunkedArray) else text_array(names)


def dictionary_encoded(names: pa.ChunkedArray) -> pa.Array:
    """The names as an Arrow array that has each different one once, and four bytes for each clip."""
    array = whole(names)
    return array if pa.types.is_dictionary(array.type) else array.dictionary_encode()


def rows_of(table: pa.Table, clip_ids: pa.ChunkedArray) -> pa.Table:
    """The rows of these clips, in their order, of a table with a row for each clip_id."""
    if table["clip_id"].equals(clip_ids):
        return table
    return table.take(pa.array(places_of(clip_ids, table["clip_id"])))


def among(values: Rows, is_chosen: pa.Array | pa.ChunkedArray) -> Rows:
    """The chosen values or rows, without a copy where all are chosen."""
    return values if pc.all(is_chosen).as_py() is not False else values.filter(is_chosen)


def places_of(
    names: pa.Array | pa.ChunkedArray, others: pa.Array | pa.ChunkedArray
) -> Int[np.ndarray, " names"]:
    """The first place of each name among others, -1 where it has none: as pc.index_in, in a fifth of its memory.

    >>> places_of(pa.array(["b", "c"]), pa.array(["a", "b", "b"]))
    array([ 1, -1])
    """
    names, others = _array(names), _array(others)
    if not len(others):
        return np.full(len(names), -1)
    hashes = hashes_of(others)
    in_order = np.argsort(hashes, kind="stable")
    hashes = hashes[in_order]
    places = np.empty(len(names), np.int64)
    for at in range(0, len(names), _NAMES_AT_ONCE):
        portion = names.slice(at, _NAMES_AT_ONCE)
        wanted = hashes_of(portion)
        nearest = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
        place = np.where(hashes[nearest] == wanted, in_order[nearest], -1)
        has_place = pa.array(place >= 0)
        if not others.take(pa.array(place[place >= 0])).equals(portion.filter(has_place)):
            # Two names have the same hash: among a million names that happens once in thirty million times.
            return pc.fill_null(pc.index_in(names, value_set=others), -1).to_numpy().astype(np.int64)
        places[at : at + _NAMES_AT_ONCE] = place
    return places


def _array(names: pa.Array | pa.ChunkedArray) -> pa.Array:
    return whole(names) if isinstance(names, pa.ChunkedArray) else names


def hashes_of(names: pa.Array | pa.ChunkedArray) -> Int[np.ndarray, " clips"]:
    """A number for each name, the same for the same name in this process: eight bytes of each of a million names."""
    portions = (
        names.slice(at, CLIPS_AS_OBJECTS).to_pylist() for at in range(0, len(names), CLIPS_AS_OBJECTS)
    )
    return np.fromiter((hash(name) for portion in portions for name in portion), np.int64, len(names))


def repeated(names: pa.ChunkedArray) -> pa.Array:
    """The names that several clips have, in the order of their first clips.

    >>> repeated(pa.chunked_array([["b", "a", "b"]])).to_pylist()
    ['b']
    """
    hashes = hashes_of(names)
    in_order = np.sort(hashes)
    several = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
    counts = names.filter(pa.array(np.isin(hashes, several))).value_counts()
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values")


def looked_up(names: pa.ChunkedArray, value_of: Mapping[str, T]) -> list[T]:
    """The value of each clip's name, looked up once for each different name.

    >>> looked_up(pa.chunked_array([["b", "a", "b"]]), {"a": 0, "b": 1})
    [1, 0, 1]
    """
    encoded = pc.dictionary_encode(whole(names))
    values = [value_of[name] for name in encoded.dictionary.to_pylist()]
    return [values[number] for number in encoded.indices.to_numpy().tolist()]
