"""Names of groups of clips, such as speakers, as numbers."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, Shaped

from w2v2.data.clip_columns import CLIPS_AS_OBJECTS

T = TypeVar("T")
Names: TypeAlias = Sequence[str] | Shaped[np.ndarray, " clips"] | pa.ChunkedArray
"""The name of each clip's group."""


def numbered(names: Names) -> tuple[Shaped[np.ndarray, " groups"], Int[np.ndarray, " clips"]]:
    """The different names in order, and the number of each clip's name among them: as np.unique, without sorting all clips.

    >>> numbered(["b", "a", "b"])
    (array(['a', 'b'], dtype='<U1'), array([1, 0, 1]))
    """
    whole = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else pa.array(names, pa.string())
    encoded = pc.dictionary_encode(whole)
    different, number = np.unique(np.array(encoded.dictionary.to_pylist(), np.str_), return_inverse=True)
    return different, number[encoded.indices.to_numpy()]


def rows_of(table: pa.Table, clip_ids: pa.ChunkedArray) -> pa.Table:
    """The rows of these clips, in their order, of a table with a row for each clip_id."""
    if table["clip_id"].equals(clip_ids):
        return table
    return table.take(pc.index_in(clip_ids, value_set=table["clip_id"].combine_chunks()))


def hashes_of(names: pa.ChunkedArray) -> Int[np.ndarray, " clips"]:
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
    encoded = pc.dictionary_encode(names.combine_chunks())
    values = [value_of[name] for name in encoded.dictionary.to_pylist()]
    return [values[number] for number in encoded.indices.to_numpy().tolist()]
