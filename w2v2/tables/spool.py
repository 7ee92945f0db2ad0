"""Temporary tables whose rows are looked up by a column: small ones in memory, others on the local disk as well."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.storage.listing import of_size

MEMORY = "300MB"
"""What DuckDB may hold in memory; the rest is in files."""
ROWS_AT_ONCE = 100_000
"""Rows that are inserted together: a statement for each small table would take most of the time. So many or fewer in all are
held and never inserted."""


class Spool:
    """Temporary tables of DuckDB, in memory up to MEMORY, and beyond that in a folder, with which they are deleted."""

    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect(
            config={"memory_limit": MEMORY, "temp_directory": str(folder / "spool")}
        )
        self._connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false").fetchall()

    def table(self, name: str, schema: pa.Schema) -> "SpooledTable":
        """A new and empty table, in place of an earlier one of that name."""
        return SpooledTable(self._connection, name, schema)

    def close(self) -> None:
        """Drop the tables."""
        self._connection.close()


@contextmanager
def spool_in(folder: Path) -> Iterator[Spool]:
    """A block with a spool in the folder."""
    spool = Spool(folder)
    try:
        yield spool
    finally:
        spool.close()


class SpooledTable:
    """Rows of one schema."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema) -> None:
        self._connection, self._name, self._schema = connection, f'"spooled_{name}"', schema
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._has_rows = False
        # Temporary: its rows are neither logged nor compressed, which would take two thirds of the time.
        self._run(f"CREATE OR REPLACE TEMP TABLE {self._name} AS FROM given", given=schema.empty_table())

    def add(self, rows: pa.Table) -> None:
        """Append rows, whose columns are those of the schema."""
        self._waiting.append(rows.select(self._schema.names).cast(self._schema))
        self._num_waiting += len(rows)
        if self._num_waiting > ROWS_AT_ONCE:
            self._insert()

    def _insert(self) -> None:
        if self._waiting:
            self._run(f"INSERT INTO {self._name} FROM given", given=pa.concat_tables(self._waiting))
            self._waiting, self._num_waiting, self._has_rows = [], 0, True

    def among(self, column: str, values: pa.ChunkedArray | pa.Array) -> pa.Table:
        """The rows, in no order, whose value in the column is one of the values."""
        if not self._has_rows:
            rows = pa.concat_tables([self._schema.empty_table(), *self._waiting])
            return rows.filter(pc.is_in(rows[column], value_set=values))
        self._insert()
        given = pa.table({"value": values})
        matching = f'FROM {self._name} AS t SEMI JOIN given AS w ON t."{column}" = w.value'
        # Rows that belong together were mostly added together: of millions, only those between the first and the last
        # match are read with all their columns.
        bounds = self._run(f"SELECT MIN(t.rowid) AS low, MAX(t.rowid) AS high {matching}", given=given)
        low, high = bounds["low"][0].as_py(), bounds["high"][0].as_py()
        if low is None:
            return self._schema.empty_table()
        sql = f"SELECT t.* {matching} WHERE t.rowid BETWEEN {low} AND {high}"
        return self._run(sql, given=given).cast(self._schema)

    def sorted_by(self, *columns: str, num_rows: int) -> Iterator[pa.Table]:
        """All rows in the order of these columns, num_rows in all tables but the last."""
        self._insert()
        order = ", ".join(f'"{column}"' for column in columns)
        reader = self._connection.sql(f"FROM {self._name} ORDER BY {order}").to_arrow_reader(ROWS_AT_ONCE)
        yield from of_size((pa.Table.from_batches([batch]).cast(self._schema) for batch in reader), num_rows)

    def doubles(self, column: str) -> list[str]:
        """The values of a column that several rows have, in their order."""
        self._insert()
        sql = f'SELECT "{column}" FROM {self._name} GROUP BY ALL HAVING COUNT(*) > 1 ORDER BY ALL'
        return [value for (value,) in self._connection.sql(sql).fetchall()]

    def _run(self, sql: str, *, given: pa.Table) -> pa.Table:
        """The result of a statement that may read the table `given`."""
        self._connection.register("given", given)
        try:
            relation = self._connection.sql(sql)
            return pa.table({}) if relation is None else relation.to_arrow_table()
        finally:
            self._connection.unregister("given")
