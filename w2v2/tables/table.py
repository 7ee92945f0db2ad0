"""Exactly-once tables in BigQuery, DuckDB or a folder of Parquet files, behind one protocol."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from w2v2.errors import UserError
from w2v2.storage import files as storage
from w2v2.tables.spec import Commit, TableSpec, Where

_OTHER = re.compile(r"(?!(gs|file)://)[A-Za-z][A-Za-z0-9+.-]+:")
_FILE_SUFFIXES = (".csv", ".db", ".duckdb", ".json", ".sqlite", ".tsv", ".xlsx")
"""Suffixes of names that are probably meant as files; an existing folder of Parquet files with such a name is opened
all the same."""


@runtime_checkable
class Table(Protocol):
    """A table that takes in parts exactly once.

    Of all rows ever committed of one TableSpec.unit, those with the greatest newest_by are in the table. So a commit
    that is run twice, or killed anywhere and run again, leaves the same table.
    """

    uri: str
    bytes_per_commit: int
    """About the bytes of rows for one commit to need little memory; more rows are given in several commits."""

    def read(self, columns: Sequence[str] = (), *, where: Where | None = None) -> pa.Table:
        """Rows, in no order, with the columns (none named: all) where each column of where equals its value.

        A resumed job begins with read(["clip_id", "start_s", "checksum"], where={"model": "..."}).
        """
        ...

    def read_batches(self, columns: Sequence[str] = (), *, where: Where | None = None) -> Iterator[pa.Table]:
        """The rows of `read`, some at a time: for tables of more rows than memory holds."""
        ...

    def commit(self, parts: Sequence[str]) -> Commit:
        """The numbers of rows that committing these parts (uris from parts.write_part) changed.

        Readers see all of a commit or nothing of it. No parts change nothing.

        Raises:
            UserError: no permission, quota, table open elsewhere, vectors of two lengths, a damaged part.
        """
        ...


def open_table(uri: str, spec: TableSpec) -> Table:
    """The table at a uri, made where it is missing.

    bq://project.dataset.table, duckdb:///folder/file.db?table=name, or a folder (local or gs://) of Parquet.

    Raises:
        UserError: malformed name, no permission, no dataset, or existing columns that differ from the spec's.
    """
    match uri.partition("://")[0]:
        case "bq":
            from w2v2.tables.bigquery_table import BigQueryTable

            return BigQueryTable(uri, spec)
        case "duckdb":
            from w2v2.tables.duckdb_table import DuckTable

            return DuckTable(uri, spec)
        case _:
            _check_folder(uri)
            from w2v2.tables.parquet_table import ParquetTable

            return ParquetTable(uri, spec)


def exists(uri: str) -> bool:
    """Whether there is a table at a uri; nothing is made.

    Raises:
        UserError: malformed name, no permission, no dataset.
    """
    match uri.partition("://")[0]:
        case "bq":
            from w2v2.tables import bigquery_table

            return bigquery_table.exists(uri)
        case "duckdb":
            from w2v2.tables import duckdb_table

            return duckdb_table.exists(uri)
        case _:
            _check_folder(uri)
            from w2v2.tables import parquet_table

            return parquet_table.exists(uri)


def _check_folder(uri: str) -> None:
    if _OTHER.match(uri):
        raise UserError(
            f"table {uri!r} is none of bq://project.dataset.table, duckdb:///folder/file.db?table=name and a folder "
            "(local or gs://) of Parquet files: write it as one of these"
        )
    is_folder = storage.is_remote(uri) or Path(storage.expand(uri)).is_dir()
    if uri.lower().endswith(_FILE_SUFFIXES) and not is_folder:
        raise UserError(
            f"table {uri!r} is named as a file, and would be a folder of Parquet files: write duckdb://{uri}?table=name for a "
            "DuckDB file, or name a folder"
        )
