"""Records: small Parquet files named by their content, written by workers, from which a later attempt resumes."""

import hashlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from w2v2.storage import files as storage
from w2v2.storage.seals import parse_parquet, seal_in_place

logger = logging.getLogger(__name__)

MANY_RECORDS = 100
ROWS_AT_ONCE = 10_000
"""Rows of a table that are Python objects at the same time in a loop over all rows."""
SMALL_RECORD_BYTES = 2**20
JOINED_ROWS = 100_000


def each_row(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows as to_pylist gives them; ROWS_AT_ONCE of them are converted at a time."""
    for at in range(0, len(table), ROWS_AT_ONCE):
        yield from table.slice(at, ROWS_AT_ONCE).to_pylist()


def write_record(folder: str, rows: pa.Table) -> None:
    """Write the rows as one file, named by its content: the same rows twice are one file."""
    data = to_parquet(rows)
    storage.write_bytes(storage.join(folder, _name(data)), data)


def _name(data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()[:40]}.parquet"


def records(folder: str, schema: pa.Schema, *, num_at_once: int) -> Iterator[pa.Table]:
    """The rows of each record; none where the folder is missing.

    A damaged file is skipped with a warning. Raises StorageError where the folder cannot be listed or read.
    """
    if storage.exists(folder):
        uris = [info.uri for info in storage.list_files(folder, suffixes=(".parquet",))]
        for _, rows in _whole_records(uris, schema, num_at_once=num_at_once):
            yield rows


def _whole_records(
    uris: Sequence[str], schema: pa.Schema, *, num_at_once: int
) -> Iterator[tuple[str, pa.Table]]:
    """Uri and rows of the records that are not damaged."""
    for uri, data in zip(uris, storage.read_many(uris, num_at_once=num_at_once), strict=True):
        if isinstance(data, storage.StorageError):
            raise data
        try:
            if uri.rpartition("/")[2] != _name(data):
                raise storage.DamagedError(f"{uri}: damaged: its bytes do not match the digest in its name")
            yield uri, parse_parquet(uri, data, schema)
        except storage.DamagedError as error:
            logger.warning("%s: the work that it records is done again", error)


def join_records(folder: str, schema: pa.Schema, *, num_at_once: int) -> None:
    """Replace many small records by few of about JOINED_ROWS rows, so that the next attempt reads few files.

    A small record is deleted after its rows are written to a larger one: an attempt that is killed in between duplicates
    rows, which is harmless. Raises StorageError where the folder cannot be read or written.
    """
    if not storage.exists(folder):
        return
    small = [
        info.uri
        for info in storage.list_files(folder, suffixes=(".parquet",))
        if info.size_bytes < SMALL_RECORD_BYTES
    ]
    if len(small) < MANY_RECORDS:
        return
    held: dict[str, pa.Table] = {}
    num_rows = 0
    for uri, rows in _whole_records(small, schema, num_at_once=num_at_once):
        held[uri] = rows
        num_rows += len(rows)
        if num_rows >= JOINED_ROWS:
            _join(folder, held, num_at_once=num_at_once)
            held, num_rows = {}, 0
    if len(held) > 1:
        _join(folder, held, num_at_once=num_at_once)


def _join(folder: str, held: Mapping[str, pa.Table], *, num_at_once: int) -> None:
    write_record(folder, pa.concat_tables(held.values()).combine_chunks())
    with ThreadPoolExecutor(num_at_once) as pool:
        list(pool.map(storage.delete, held))


def to_parquet(rows: pa.Table, *, sealed: bool = False) -> bytes:
    """Parquet bytes of a table, the same for the same rows and pyarrow version; with a seal where asked for."""
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    if sealed:
        seal_in_place(sink)
    return sink.getvalue()
