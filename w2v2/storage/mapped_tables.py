"""Large tables on the local disk, memory-mapped: the system may drop them from memory and read them again."""

import logging
import tempfile
from collections.abc import Iterable

import pyarrow as pa

logger = logging.getLogger(__name__)

HELD_BYTES = 2**24
"""Tables up to this size stay in memory."""


def on_disk(table: pa.Table) -> pa.Table:
    """The same table, each column in one chunk; one of more than HELD_BYTES in files of the temporary folder, which end with it.

    Where the folder has no room, the table stays in memory, with a warning.
    """
    if table.nbytes <= HELD_BYTES:
        return table.combine_chunks()
    return from_columns((table.select([place]) for place in range(table.num_columns)), table.schema)


def from_columns(columns: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """The table of these columns, tables of one column each, in such files: one of them at a time is in memory."""
    arrays, has_room = [], True
    for column in columns:
        column = column.combine_chunks()
        if has_room:
            try:
                column = _mapped(column)
            except OSError as error:
                folder = tempfile.gettempdir()
                logger.warning(
                    "a table of clips stays in memory, as %s has no room for it: %s", folder, error
                )
                has_room = False
        arrays.append(column[0])
        # Arrow's allocator would keep what the last column took.
        pa.default_memory_pool().release_unused()
    return pa.table(arrays, schema=schema)


def _mapped(column: pa.Table) -> pa.Table:
    with tempfile.NamedTemporaryFile(prefix="w2v2-", suffix=".arrow") as file:
        with pa.OSFile(file.name, "wb") as sink, pa.ipc.new_file(sink, column.schema) as writer:
            writer.write_table(column)
        with pa.memory_map(file.name) as source:
            return pa.ipc.open_file(source).read_all()


def whole(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, without a copy where it has one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
