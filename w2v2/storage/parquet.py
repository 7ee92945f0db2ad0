"""Records: small Parquet files named by their content, written by workers, from which a later attempt resumes."""

import hashlib
import io
import logging

import pyarrow as pa
import pyarrow.parquet as pq

from w2v2.storage import files as storage
from w2v2.storage.seals import parse_parquet

logger = logging.getLogger(__name__)


def write_record(folder: str, rows: pa.Table) -> None:
    """Write the rows as one file, named by its content: the same rows twice are one file."""
    data = to_parquet(rows)
    storage.write_bytes(storage.join(folder, _name(data)), data)


def _name(data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()[:40]}.parquet"


def read_records(folder: str, schema: pa.Schema, *, num_at_once: int) -> pa.Table:
    """The rows of all records; none where the folder is missing.

    A damaged file is skipped with a warning. Raises StorageError where the folder cannot be listed or read.
    """
    if not storage.exists(folder):
        return schema.empty_table()
    uris = [info.uri for info in storage.list_files(folder, suffixes=(".parquet",))]
    tables = [schema.empty_table()]
    for uri, data in zip(uris, storage.read_many(uris, num_at_once=num_at_once), strict=True):
        if isinstance(data, storage.StorageError):
            raise data
        try:
            if uri.rpartition("/")[2] != _name(data):
                raise storage.DamagedError(
                    f"{uri}: damaged: its bytes are not those that its name was made of"
                )
            tables.append(parse_parquet(uri, data, schema))
        except storage.DamagedError as error:
            logger.warning("%s: what it records is done again", error)
    return pa.concat_tables(tables)


def to_parquet(rows: pa.Table) -> bytes:
    """Parquet bytes of a table, the same for the same rows and pyarrow version."""
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()
