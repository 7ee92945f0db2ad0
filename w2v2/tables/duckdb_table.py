"""A table in a DuckDB file: written by one process at a time, queried with SQL by any program.

Nearest embeddings, in SQL: SELECT clip_id, list_cosine_similarity(embedding, ?) AS similarity FROM
embeddings WHERE model = ? ORDER BY similarity DESC LIMIT 10.
"""

import logging
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from w2v2.errors import UserError, unwritable_disk
from w2v2.tables import sql as table_sql
from w2v2.tables.parts import read_part, together
from w2v2.tables.spec import (
    NAME,
    TIMESTAMP,
    Commit,
    TableSpec,
    Where,
    check_columns,
    concatenated,
    one_dim_error,
)

logger = logging.getLogger(__name__)

_HEADER_BYTES = 12_288
_BATCH_ROWS = 100_000
_STAGED_BYTES = 32 * 2**20
_MEMORY = "25%"
"""The most that DuckDB uses of the memory of the machine or the container: a commit takes eight times the bytes of its rows."""
_DAMAGED = re.compile(
    r"[Cc]orrupt|checksum|WAL|[Ss]erializ|truncated|enough bytes|not a valid DuckDB database file"
)
_LOCKED = "Could not set lock"
"""Words in DuckDB's messages for a damaged file, and for one that another process has open; the class of both errors is
IOException."""
_URI = re.compile(r"duckdb://([^?#\0]+)\?table=([^?#&]+)")


class DuckTable:
    """The table duckdb:///folder/file.db?table=name; file and table are made where missing.

    Rows get in exactly once without a primary key: a commit is one transaction, which compares the staged keys with the
    table's and then merges, or appends where all are new; a process killed anywhere in it leaves the table unchanged.
    """

    bytes_per_commit = 64 * 2**20

    def __init__(self, uri: str, spec: TableSpec) -> None:
        match = _parsed(uri)
        self.uri, self._spec, self._name = uri, spec, f'"{match[2]}"'
        self._path = Path(match[1]).expanduser()
        _make_file(self._path, self.uri)
        with _connection(self._path, self.uri) as connection:
            types = {field.name: _type(field.type) for field in spec.schema}
            made = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
            connection.execute(f"CREATE TABLE IF NOT EXISTS {self._name} ({made})")
            rows = connection.sql(f"DESCRIBE {self._name}").fetchall()
        check_columns(uri, existing={row[0]: row[1] for row in rows}, wanted=types)

    def read(self, columns: Sequence[str] = (), *, where: Where | None = None) -> pa.Table:
        """Rows with the columns (none named: all) where each column of where equals its value."""
        return concatenated(self._spec, columns, self.read_batches(columns, where=where))

    def read_batches(self, columns: Sequence[str] = (), *, where: Where | None = None) -> Iterator[pa.Table]:
        """The rows of `read`, some at a time. Raises UserError where the file cannot be opened."""
        names, where = list(columns) or self._spec.schema.names, where or {}
        tests = "".join(f' AND "{self._spec.schema.field(name).name}" = ?' for name in where)
        sql = f"SELECT {table_sql.columns(names, _QUOTE)} FROM {self._name} WHERE TRUE{tests}"
        schema = pa.schema([self._spec.schema.field(name) for name in names])
        with _connection(self._path, self.uri) as connection:
            batches = connection.sql(sql, params=list(where.values())).to_arrow_reader(_BATCH_ROWS)
            for batch in batches:
                yield pa.Table.from_batches([batch]).cast(schema)

    def commit(self, parts: Sequence[str]) -> Commit:
        """Take the rows of the parts into the table, exactly once; see tables.Table.

        Raises UserError where the file cannot be opened or written, for vectors of two lengths, and for a damaged part.
        """
        names = {"target": self._name, "staging": "staging", "quote": _QUOTE}
        with _connection(self._path, self.uri) as connection:
            # Before the transaction: DuckDB 2.0's joins miss all rows of a table of more than 122,880 that the same
            # transaction has inserted. The table is temporary and gone with the connection.
            num_given = self._stage(connection, parts)
            num_staged, num_newest = _first_row(connection, table_sql.num_staged(self._spec, **names))
            self._check_none_lost(num_given, num_staged)
            connection.begin()
            counts = Commit.of_row(_first_row(connection, table_sql.count(self._spec, **names)))
            self._check_none_lost(num_newest, counts.num_given)
            if self._spec.dim_per and (
                rows := connection.sql(table_sql.dims(self._spec, **names)).fetchall()
            ):
                raise one_dim_error(self.uri, self._spec, rows[0])
            # Where all rows are new, as in most commits, a MERGE would take half of the time and of the memory.
            all_new = counts.inserted == num_staged and not counts.removed
            change = table_sql.insert if all_new else table_sql.merge
            [num_changed] = _first_row(connection, change(self._spec, **names))
            self._check_none_lost(counts.pending, num_changed)
            connection.commit()
        return counts

    def _check_none_lost(self, num_wanted: int, num_rows: int) -> None:
        """Raises UserError where a step of a commit has another number of rows than wanted: a join of DuckDB has lost some."""
        if num_rows != num_wanted:
            raise UserError(
                f"table {self.uri}: DuckDB has {num_rows} of the {num_wanted} rows of a commit, which is undone: report this"
            )

    def _stage(self, connection: duckdb.DuckDBPyConnection, parts: Sequence[str]) -> int:
        """The number of rows of the parts, which are in the temporary table `staging` afterwards."""
        names, num_rows = self._spec.schema.names, 0
        connection.execute(f"CREATE TEMP TABLE staging AS FROM {self._name} LIMIT 0").fetchall()
        listed = table_sql.columns(names, _QUOTE)
        # Every INSERT takes megabytes of memory, even with few rows.
        for rows in together((read_part(part, names) for part in parts), num_bytes=_STAGED_BYTES):
            connection.register("part", rows)
            connection.execute(f"INSERT INTO staging ({listed}) SELECT {listed} FROM part").fetchall()
            connection.unregister("part")
            num_rows += len(rows)
        return num_rows


def _first_row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    return connection.execute(sql).fetchall()[0]


def _make_file(path: Path, uri: str) -> None:
    """Make the database if it is missing: under another name, then renamed, so that a full disk leaves no partial file."""
    try:
        if _is_stub(path):
            logger.warning("%s is an incomplete database, left by a full disk: it is created again", path)
            path.unlink()
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            duckdb.connect(str(part)).close()
            with suppress(FileExistsError):  # made by another process meanwhile
                os.link(part, path)
        finally:
            part.unlink(missing_ok=True)
    except (duckdb.Error, OSError) as error:
        raise unwritable_disk(error) or UserError(_sentence(uri, error)) from error


def _is_stub(path: Path) -> bool:
    """Whether the file is a DuckDB file too short for its headers, which never held a row.

    A file of fewer than 12 bytes does not have DuckDB's name in it yet: it counts only if empty.
    """
    if not path.is_file() or path.stat().st_size >= _HEADER_BYTES:
        return False
    body = path.read_bytes()
    return not body.strip(b"\0") or body[8:12] == b"DUCK"


def _refuse_other_files(path: Path, uri: str) -> None:
    """Raises UserError for a file of another format: DuckDB opens a CSV as a database of its own in memory, which is lost."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(12)[8:] != b"DUCK":
                raise UserError(_sentence(uri, OSError(f"{path} does not begin as a DuckDB file does")))


@contextmanager
def _connection(path: Path, uri: str) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_other_files(path, uri)
        with duckdb.connect(str(path), config={"memory_limit": _MEMORY}) as connection:
            connection.execute("SET TimeZone = 'UTC'").fetchall()
            yield connection
    except (duckdb.Error, OSError) as error:
        if isinstance(error, duckdb.ProgrammingError | duckdb.IntegrityError | duckdb.DataError):
            raise  # a mistake of ours, not of the file
        raise unwritable_disk(error) or UserError(_sentence(uri, error)) from error


def _sentence(uri: str, error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    path = _parsed(uri)[1]
    without_path = reason.replace(str(Path(path).expanduser()), "")  # a folder's name may have any word
    is_of_duckdb = isinstance(error, duckdb.Error)
    if is_of_duckdb and _LOCKED in without_path:
        holder = re.search(r"PID (\d+)", str(error))
        who = f"process {holder[1]}" if holder else "another process"
        return f"table {uri} is open in {who}, and DuckDB has one writer: run again when that has ended"
    is_broken = isinstance(
        error, duckdb.InternalError | duckdb.FatalException | duckdb.SerializationException
    )
    if is_broken or (is_of_duckdb and _DAMAGED.search(without_path)):
        return (
            f"table {uri} is damaged ({reason[:200]}): put a copy of {path} back, or delete it and run the same command "
            "again, which writes the rows of its run into a new one"
        )
    return f"table {uri} cannot be opened: {reason}; give a file that is DuckDB's or none, in a folder you may write"


_QUOTE = '"'


def exists(uri: str) -> bool:
    """Whether there is a table at duckdb:///folder/file.db?table=name. Raises UserError for other names and other files."""
    match = _parsed(uri)
    path = Path(match[1]).expanduser()
    if not path.exists():
        return False
    with _connection(path, uri) as connection:
        return (match[2],) in connection.sql("SHOW TABLES").fetchall()


def _parsed(uri: str) -> re.Match[str]:
    match = _URI.fullmatch(uri)
    if match is None or not NAME.fullmatch(match[2]):
        raise UserError(
            f"table {uri!r} is not a DuckDB table: write duckdb:///folder/file.db?table=name, "
            "with a table name of letters, digits and _"
        )
    return match


def _type(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type, as DESCRIBE spells it."""
    if pa.types.is_list(kind):
        return f"{_type(kind.value_type)}[]"
    return {
        pa.string(): "VARCHAR",
        pa.bool_(): "BOOLEAN",
        pa.int64(): "BIGINT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
        pa.date32(): "DATE",
        TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    }[kind]
