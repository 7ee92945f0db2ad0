"""Clips as the rows of a table: of a million the columns are in memory, and an object for each that is looked at."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import pyarrow as pa
import pyarrow.compute as pc

CLIPS_AS_OBJECTS = 1_000
"""Clips that are objects at the same time where all are looked at."""

Item = TypeVar("Item")


class ClipColumns(Sequence[Item]):
    """Clips as the rows of a table, in a quarter of the memory of objects; each is made while it is looked at."""

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
        """The chosen clips; these themselves where that is all of them, which a copy would double."""
        if pc.all(is_chosen).as_py() is not False:
            return self
        return ClipColumns(self.table.filter(is_chosen), self._make)

    def __iter__(self) -> Iterator[Item]:
        for at in range(0, len(self), CLIPS_AS_OBJECTS):
            yield from self[at : at + CLIPS_AS_OBJECTS]


def table_of(rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """The rows, some of them at a time, as a table."""
    waiting = iter(rows)
    portions = iter(lambda: list(itertools.islice(waiting, CLIPS_AS_OBJECTS)), [])
    tables = [pa.Table.from_pylist(portion, schema=schema) for portion in portions]
    return pa.concat_tables([schema.empty_table(), *tables])
