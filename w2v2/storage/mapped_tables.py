"""Large tables on the local disk, memory-mapped: the system may drop them from memory and read them again."""

import ctypes
import functools
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

logger = logging.getLogger(__name__)

HELD_BYTES = 2**24
"""Tables up to this size stay in memory."""


def on_disk(table: pa.Table) -> pa.Table:
    """The same table, each column in one chunk; a table of more than HELD_BYTES is kept in files of the temporary folder.

    Their disk space is freed with the table. Where the folder has no room, the table stays in memory, with a warning.
    """
    if table.nbytes <= HELD_BYTES:
        return table.combine_chunks()
    return from_columns((table.select([place]) for place in range(table.num_columns)), table.schema)


def from_columns(columns: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """A table of these columns (each a table of one column), in files as on_disk makes; one column at a time is in memory."""
    arrays, has_room = [], True
    for column in columns:
        column = column.combine_chunks()
        if has_room:
            try:
                column = _mapped(column)
            except OSError as error:
                logger.warning("%s", _no_room(error))
                has_room = False
        arrays.append(column[0])
        pa.default_memory_pool().release_unused()  # what the last column took
    release_memory()
    return pa.table(arrays, schema=schema)


def array_on_disk(array: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """A read-only copy of an array of any shape, memory-mapped from a file in the temporary folder; the array itself without room there."""
    if not array.size:
        return array
    try:
        with tempfile.NamedTemporaryFile(prefix="w2v2-", suffix=".bin") as file:
            file.write(np.ascontiguousarray(array).data)
            file.flush()
            return np.memmap(file.name, array.dtype, "r", shape=array.shape)
    except OSError as error:
        logger.warning("%s", _no_room(error))
        return array


def _no_room(error: OSError) -> str:
    folder = tempfile.tempdir or "the temporary folder"  # gettempdir would raise where there is none
    return f"predictions or clips stay in memory, as {folder} has no room for them: {error}"


def release_memory() -> None:
    """Return to the system the free memory that Arrow and glibc keep: after steps over a million clips it is most of a process's memory."""
    pa.default_memory_pool().release_unused()
    if (trim := _malloc_trim()) is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def _mapped(column: pa.Table) -> pa.Table:
    with tempfile.NamedTemporaryFile(prefix="w2v2-", suffix=".arrow") as file:
        with pa.OSFile(file.name, "wb") as sink, pa.ipc.new_file(sink, column.schema) as writer:
            writer.write_table(column)
        with pa.memory_map(file.name) as source:
            return pa.ipc.open_file(source).read_all()


def whole(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, without a copy where it has one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
