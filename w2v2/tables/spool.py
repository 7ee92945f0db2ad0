"""Temporary tables whose rows are looked up shard by shard: small ones in memory, others on the local disk as well."""

from collections.abc import Iterator, Mapping
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
MAX_SPREAD = 4
"""Rows that are looked at for each one that is wanted; where it would be more, the rows are put in the order of their shards."""
_SHARD, _IN_ORDER = "w2v2__shard", "w2v2__in_order"


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

    def keys(self, name: str) -> "Keys":
        """New and empty keys, in place of earlier ones of that name."""
        return Keys(self._connection, name)

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


class Keys:
    """Which of many shards have which values of a column, as hashes."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        self._connection, self.name = connection, f'"keys_{name}"'
        sql = f"CREATE OR REPLACE TEMP TABLE {self.name} (hash UBIGINT, shard INTEGER)"
        self._connection.execute(sql).fetchall()

    def add(self, shard: int, values: pa.ChunkedArray) -> None:
        """Take in the values of a shard."""
        sql = f"INSERT INTO {self.name} SELECT DISTINCT hash(value), {shard} FROM given"
        _run(self._connection, sql, given=pa.table({"value": values}))


class SpooledTable:
    """Rows of one schema."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema) -> None:
        self._connection, self._name, self._schema = connection, f'"spooled_{name}"', schema
        self._waiting: list[pa.Table] = []
        self._num_waiting, self._num_rows = 0, 0
        self._has_rows = False
        # Temporary: its rows are neither logged nor compressed, which would take two thirds of the time.
        sql = f"CREATE OR REPLACE TEMP TABLE {self._name} AS FROM given"
        _run(connection, sql, given=schema.empty_table())

    def add(self, rows: pa.Table) -> None:
        """Append rows, whose columns are those of the schema."""
        self._waiting.append(rows.select(self._schema.names).cast(self._schema))
        self._num_waiting += len(rows)
        self._num_rows += len(rows)
        if self._num_waiting > ROWS_AT_ONCE:
            self._insert()

    def _insert(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(self._waiting)
            _run(self._connection, f"INSERT INTO {self._name} FROM given", given=rows)
            self._waiting, self._num_waiting, self._has_rows = [], 0, True

    def by_shard(self, column: str, keys: Keys) -> "RowsByShard":
        """The rows, to be looked up shard by shard by the values of a column that the shards have; no more rows can be added."""
        if not self._has_rows:
            held = pa.concat_tables([self._schema.empty_table(), *self._waiting])
            return RowsByShard(self._connection, self._schema, column, held=held)
        self._insert()
        # One join for all shards: one for each would look at all rows each time.
        joined = f'FROM {self._name} AS t JOIN {keys.name} AS k ON k.hash = hash(t."{column}")'
        ranges = _ranges(self._connection, f"SELECT k.shard, t.rowid AS place {joined}")
        if sum(map(len, ranges.values())) > MAX_SPREAD * self._num_rows:
            sql = f'SELECT t.*, k.shard AS "{_SHARD}" {joined} ORDER BY k.shard'
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_IN_ORDER} AS {sql}").fetchall()
            self._connection.execute(
                f"DROP TABLE {self._name}; ALTER TABLE {_IN_ORDER} RENAME TO {self._name}"
            ).fetchall()
            sql = f'SELECT "{_SHARD}" AS shard, rowid AS place FROM {self._name}'
            ranges = _ranges(self._connection, sql)
        return RowsByShard(self._connection, self._schema, column, name=self._name, ranges=ranges)

    def sorted_by(self, *columns: str, num_rows: int) -> Iterator[pa.Table]:
        """All rows in the order of these columns, num_rows in all tables but the last."""
        self._insert()
        order = ", ".join(f'"{column}"' for column in columns)
        reader = self._connection.sql(f"FROM {self._name} ORDER BY {order}").to_arrow_reader(ROWS_AT_ONCE)
        yield from of_size((pa.Table.from_batches([batch]).cast(self._schema) for batch in reader), num_rows)

    def duplicates(self, column: str) -> list[str]:
        """The values of a column that several rows have, in their order."""
        self._insert()
        sql = f'SELECT "{column}" FROM {self._name} GROUP BY ALL HAVING COUNT(*) > 1 ORDER BY ALL'
        return [value for (value,) in self._connection.sql(sql).fetchall()]


class RowsByShard:
    """The rows of a spooled table, one shard's at a time."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: pa.Schema,
        column: str,
        *,
        held: pa.Table | None = None,
        name: str = "",
        ranges: Mapping[int, range] | None = None,
    ) -> None:
        self._connection, self._schema, self._column = connection, schema, column
        self._held, self._name, self.ranges = held, name, ranges or {}

    def of(self, shard: int, values: pa.ChunkedArray) -> pa.Table:
        """The rows, in no order, whose value is one of those of the shard."""
        rows = self._held
        if rows is None:
            names = ", ".join(f'"{name}"' for name in self._schema.names)
            places = self.ranges.get(shard, range(0))
            sql = f"SELECT {names} FROM {self._name} WHERE rowid BETWEEN {places.start} AND {places.stop - 1}"
            rows = self._connection.sql(sql).to_arrow_table().cast(self._schema)
        return rows.filter(pc.is_in(rows[self._column], value_set=_whole(values)))


def _ranges(connection: duckdb.DuckDBPyConnection, places: str) -> dict[int, range]:
    """By shard the range of places, of a statement with the shard and the place of each row."""
    sql = f"SELECT shard, MIN(place), MAX(place) + 1 FROM ({places}) AS p GROUP BY shard"
    return {shard: range(low, high) for shard, low, high in connection.execute(sql).fetchall()}


def _whole(values: pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _run(connection: duckdb.DuckDBPyConnection, sql: str, *, given: pa.Table) -> None:
    """Execute a statement that reads the table `given`."""
    connection.register("given", given)
    try:
        connection.execute(sql).fetchall()
    finally:
        connection.unregister("given")
