"""Temporary tables whose rows are looked up by a column: small ones in memory, others on the local disk as well."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Integer, Shaped

from w2v2.storage.listing import of_size

MEMORY = "300MB"
"""The most that DuckDB holds in memory; the rest is in files."""
ROWS_AT_ONCE = 100_000
"""Rows that are inserted together: a statement for each small table would take most of the time. A table of at most so many
rows stays in Arrow and is never inserted. It is also the number of rows of a block, which a look-up reads as a whole."""
MAX_OVERLAP = 8.0
"""The mean number of blocks that a block's range of values overlaps, above which the rows are sorted before the first look-up."""


class Spool:
    """Temporary tables of DuckDB, in memory up to MEMORY, beyond it in a folder; they are deleted with the folder."""

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
        self._blocks: Blocks | None = None
        # Temporary: its rows are neither logged nor compressed, which would take two thirds of the time.
        self._run(f"CREATE OR REPLACE TEMP TABLE {self._name} AS FROM given", given=schema.empty_table())

    def add(self, rows: pa.Table) -> None:
        """Append rows, which have at least the columns of the schema."""
        self._waiting.append(rows.select(self._schema.names).cast(self._schema))
        self._num_waiting += len(rows)
        if self._num_waiting > ROWS_AT_ONCE:
            self._insert()

    def _insert(self) -> None:
        if self._waiting:
            self._run(f"INSERT INTO {self._name} FROM given", given=pa.concat_tables(self._waiting))
            self._waiting, self._num_waiting, self._has_rows, self._blocks = [], 0, True, None

    def among(self, column: str, values: pa.ChunkedArray | pa.Array) -> pa.Table:
        """The rows, in no order, whose value in the column is one of the values.

        A look-up is fast, whatever the number of rows, if its values are near each other in the order of the column. If they
        come from all over the column, such as names in random order, it reads all rows.
        """
        if not self._has_rows:
            rows = pa.concat_tables([self._schema.empty_table(), *self._waiting])
            return rows.filter(pc.is_in(rows[column], value_set=values))
        self._insert()
        blocks = self._blocks_of(column).overlapping(values)
        if not len(blocks):
            return self._schema.empty_table()
        sql = f"""
            SELECT t.* FROM {self._name} AS t SEMI JOIN given AS w ON t."{column}" = w.value
            WHERE t.rowid BETWEEN {blocks[0] * ROWS_AT_ONCE} AND {(blocks[-1] + 1) * ROWS_AT_ONCE - 1}
        """
        return self._run(sql, given=pa.table({"value": values})).cast(self._schema)

    def _blocks_of(self, column: str) -> "Blocks":
        """The range of the column's values in each block; sorts the table first if it is unordered."""
        if self._blocks is None or self._blocks.column != column:
            self._blocks = self._read_blocks(column)
            if self._blocks.mean_overlap > MAX_OVERLAP:
                self._sort(column)
                self._blocks = self._read_blocks(column)
        return self._blocks

    def _read_blocks(self, column: str) -> "Blocks":
        sql = f"""
            SELECT rowid // {ROWS_AT_ONCE} AS block, MIN("{column}") AS least, MAX("{column}") AS most
            FROM {self._name} WHERE "{column}" IS NOT NULL GROUP BY ALL ORDER BY ALL
        """
        bounds = self._connection.sql(sql).to_arrow_table()
        return Blocks(column, *(bounds[name].to_numpy() for name in ("block", "least", "most")))

    def _sort(self, column: str) -> None:
        copy = f'{self._name[:-1]}_sorted"'
        self._connection.execute(
            f'''
            CREATE TEMP TABLE {copy} AS FROM {self._name} ORDER BY "{column}";
            DROP TABLE {self._name};
            ALTER TABLE {copy} RENAME TO {self._name};
            '''
        ).fetchall()

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

    def _run(self, sql: str, *, given: pa.Table) -> pa.Table:
        """The result of a statement that may read the table `given`."""
        self._connection.register("given", given)
        try:
            relation = self._connection.sql(sql)
            return pa.table({}) if relation is None else relation.to_arrow_table()
        finally:
            self._connection.unregister("given")


class Blocks:
    """The smallest and the largest value of a column in each block: ROWS_AT_ONCE rows of a table that follow each other."""

    def __init__(
        self,
        column: str,
        numbers: Integer[np.ndarray, " blocks"],
        least: Shaped[np.ndarray, " blocks"],
        most: Shaped[np.ndarray, " blocks"],
    ) -> None:
        self.column = column
        self._numbers, self._least, self._most = numbers, least, most

    def overlapping(self, values: pa.ChunkedArray | pa.Array) -> Integer[np.ndarray, " matches"]:
        """Numbers, in their order, of the blocks that may have one of the values."""
        ends = pc.min_max(values).as_py()
        if ends["min"] is None:
            return self._numbers[:0]
        return self._numbers[(self._least <= ends["max"]) & (self._most >= ends["min"])]

    @property
    def mean_overlap(self) -> float:
        """How many blocks a block's range of values overlaps on average, itself among them."""
        overlaps = (self._least[:, None] <= self._most) & (self._most[:, None] >= self._least)
        return float(overlaps.sum(1).mean()) if len(self._numbers) else 0.0
