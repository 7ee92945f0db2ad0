"""Clips as the rows of a table: the columns are in memory, and a clip becomes a Python object only while it is used."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.storage.mapped_tables import on_disk

CLIPS_AS_OBJECTS = 1_000
"""Clips that are Python objects at the same time in a loop over all clips."""

JOINED_CLIPS = 100_000
"""Rows of many small tables that are joined to a table on the disk."""

Item = TypeVar("Item")


class ClipColumns(Sequence[Item]):
    """Clips as the rows of a table, in a quarter of the memory of objects; a clip's object is made when it is used."""

    def __init__(self, table: pa.Table, make: Callable[[Mapping[str, Any]], Item]) -> None:
        self.table: pa.Table = table.combine_chunks()
        self._make: Callable[[Mapping[str, Any]], Item] = make

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return self[chosen : chosen + 1][0]
        rows = self.table.take(pa.array(chosen, pa.int64()))
        return [self._make(row) for row in rows.to_pylist()]

    def among(self, is_chosen: pa.ChunkedArray) -> "ClipColumns[Item]":
        """The chosen clips; self where all are chosen, as a copy would take as much memory again."""
        if pc.all(is_chosen).as_py() is not False:
            return self
        return ClipColumns(self.table.filter(is_chosen), self._make)

    def __iter__(self) -> Iterator[Item]:
        for at in range(0, len(self), CLIPS_AS_OBJECTS):
            yield from self[at : at + CLIPS_AS_OBJECTS]


class TextColumn(Sequence[str]):
    """Texts, such as names of clips, as an Arrow array: half the memory of a list. A text becomes a Python object when it is used."""

    def __init__(self, array: pa.Array) -> None:
        self.array: pa.Array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        chosen = self.array[index]
        return chosen.to_pylist() if isinstance(index, slice) else chosen.as_py()

    def __iter__(self) -> Iterator[str]:
        for at in range(0, len(self), CLIPS_AS_OBJECTS):
            yield from self[at : at + CLIPS_AS_OBJECTS]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return self.array.equals(text_array(other))

    __hash__ = None  # type: ignore[assignment]


def text_array(texts: Sequence[str] | np.ndarray) -> pa.Array:
    """The texts as an Arrow array, which they may be already."""
    return texts.array if isinstance(texts, TextColumn) else pa.array(texts, pa.string())


class TablesInOrder:
    """The rows of numbered tables in their order, whatever the order in which they come; most of them are on the disk."""

    def __init__(self, schema: pa.Schema) -> None:
        self._empty = schema.empty_table()
        self._early: dict[int, pa.Table] = {}
        self._next = self._num_held = 0
        self._held: list[pa.Table] = []
        self._joined: list[pa.Table] = []

    def add(self, number: int, table: pa.Table) -> None:
        """Take in the table of this number; numbers begin with 0 and have no gaps."""
        self._early[number] = table
        while self._next in self._early:
            self._held.append(self._early.pop(self._next))
            self._num_held += len(self._held[-1])
            self._next += 1
        if self._num_held >= JOINED_CLIPS:
            self._joined.append(on_disk(pa.concat_tables(self._held)))
            self._held, self._num_held = [], 0

    def all(self) -> pa.Table:
        """The rows of all tables."""
        assert not self._early, "a table is missing"
        return on_disk(pa.concat_tables([self._empty, *self._joined, *self._held]))


def table_of(rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """The rows, some of them at a time, as a table."""
    waiting = iter(rows)
    portions = iter(lambda: list(itertools.islice(waiting, CLIPS_AS_OBJECTS)), [])
    tables = TablesInOrder(schema)
    for number, portion in enumerate(portions):
        tables.add(number, pa.Table.from_pylist(portion, schema=schema))
    return tables.all()
