"""What workers leave in a folder for a later attempt to go on from: small Parquet files named by their content."""

import hashlib
import io
import logging

import pyarrow as pa
import pyarrow.parquet as pq

from w2v2.storage import files as storage

logger = logging.getLogger(__name__)

DAMAGE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)
"""What pyarrow and our own decoders raise on bytes that are not those that were written."""


def write_record(folder: str, rows: pa.Table) -> None:
    """Keep the rows; the same rows twice are one file."""
    data = to_parquet(rows)
    storage.write_bytes(storage.join(folder, f"{hashlib.sha256(data).hexdigest()[:40]}.parquet"), data)


def read_records(folder: str, schema: pa.Schema, *, num_at_once: int) -> pa.Table:
    """All rows that were kept; none where the folder is missing. A damaged file is told and passed over."""
    if not storage.exists(folder):
        return schema.empty_table()
    uris = [info.uri for info in storage.list_files(folder, suffixes=(".parquet",))]
    tables = [schema.empty_table()]
    for uri, data in zip(uris, storage.read_many(uris, num_at_once=num_at_once), strict=True):
        if isinstance(data, storage.StorageError):
            raise data
        try:
            tables.append(pq.read_table(pa.BufferReader(data), schema=schema))
        except DAMAGE:
            logger.warning("%s is damaged: what it tells of is done again", uri)
    return pa.concat_tables(tables)


def to_parquet(rows: pa.Table) -> bytes:
    """Parquet bytes of a table, the same for the same rows and pyarrow version."""
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()
