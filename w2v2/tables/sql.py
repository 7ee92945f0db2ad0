"""The SQL of a commit, for all back ends; they differ in the quote.

Names come from a TableSpec, which takes none with a quote in it; values are always parameters.
"""

from collections.abc import Sequence

from w2v2.tables.spec import TableSpec

GONE = "w2v2__gone"
"""Column of a merge's source: the table's row is to be deleted, not replaced."""


def columns(names: Sequence[str], quote: str, *, of: str = "") -> str:
    """Names quoted and joined, each with its table's alias where one is given."""
    prefix = f"{of}." if of else ""
    return ", ".join(f"{prefix}{quote}{name}{quote}" for name in names)


def count(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """SQL that returns one row: staged keys to insert, to replace, unchanged, stale; and rows of the table to remove."""
    by = f"{quote}{spec.newest_by}{quote}"
    cases = (
        f"t.{by} IS NULL AND (g.{by} IS NULL OR s.{by} >= g.{by})",
        f"s.{by} > t.{by}",
        f"s.{by} = t.{by}",
        f"s.{by} < COALESCE(t.{by}, g.{by})",
    )
    sums = ", ".join(
        f"COALESCE(SUM(CASE WHEN {case} THEN 1 ELSE 0 END), 0) AS n{i}" for i, case in enumerate(cases)
    )
    removed_rows = _removed_rows(spec, spec.key, target=target, staging=staging, quote=quote)
    removed = f"(SELECT COUNT(*) FROM ({removed_rows}) AS d)"
    return (
        f"SELECT {sums}, {removed} AS n4 FROM {_compared(spec, target=target, staging=staging, quote=quote)}"
    )


def num_staged(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """SQL, without joins, that returns one row: the number of staged rows, and the number of keys in the newest rows of each group."""
    by, key = f"{quote}{spec.newest_by}{quote}", columns(spec.key, quote)
    aged = f"SELECT {key}, {by}, MAX({by}) OVER (PARTITION BY {columns(spec.unit, quote)}) AS newest FROM {staging}"
    newest = f"SELECT 1 FROM ({aged}) AS a WHERE {by} = newest GROUP BY {key}"
    return f"SELECT (SELECT COUNT(*) FROM {staging}), (SELECT COUNT(*) FROM ({newest}) AS k)"


def insert(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """SQL that appends the staged rows; it does the same as `merge` if all of them are new."""
    names = columns(spec.schema.names, quote)
    return f"INSERT INTO {target} ({names}) SELECT {names} FROM {staging}"


def merge(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """The MERGE that replaces groups of the table by newer groups of the staging table."""
    names, value_names = spec.schema.names, [name for name in spec.schema.names if name not in spec.key]
    places = {"target": target, "staging": staging, "quote": quote}
    by = f"{quote}{spec.newest_by}{quote}"
    updates = ", ".join(f"{quote}{name}{quote} = s.{quote}{name}{quote}" for name in value_names)
    staged = columns(names, quote, of="s")
    source = (
        f"SELECT {staged}, FALSE AS {GONE} FROM {_compared(spec, **places)} "
        f"WHERE g.{by} IS NULL OR s.{by} >= g.{by} "
        f"UNION ALL SELECT {columns(names, quote, of='d')}, TRUE AS {GONE} FROM ({_removed_rows(spec, names, **places)}) AS d"
    )
    return (
        f"MERGE INTO {target} AS t USING ({source}) AS s ON {_same(spec.key, 't', 's', quote)} "
        f"WHEN MATCHED AND s.{GONE} THEN DELETE "
        f"WHEN MATCHED AND s.{by} > t.{by} THEN UPDATE SET {updates} "
        f"WHEN NOT MATCHED AND NOT s.{GONE} THEN INSERT ({columns(names, quote)}) VALUES ({staged})"
    )


def dims(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """SQL that returns at most one row: values of dim_per whose vectors would have two lengths, least and greatest dim."""
    groups = columns(spec.dim_per, quote)
    both = " UNION ALL ".join(
        f"SELECT {groups}, {quote}dim{quote} FROM {table}" for table in (target, staging)
    )
    low, high = f"MIN({quote}dim{quote})", f"MAX({quote}dim{quote})"
    return (
        f"SELECT {groups}, {low} AS low, {high} AS high FROM ({both}) AS b "
        f"GROUP BY {groups} HAVING {low} < {high} LIMIT 1"
    )


def newer(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """SQL that returns place and position of the staged rows that a merge would take in."""
    by = f"{quote}{spec.newest_by}{quote}"
    return (
        f"SELECT s.place, s.position FROM {_compared(spec, target=target, staging=staging, quote=quote)} "
        f"WHERE (g.{by} IS NULL OR s.{by} >= g.{by}) AND (t.{by} IS NULL OR s.{by} > t.{by})"
    )


def outdated(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """SQL that returns place and position of the table's rows that a merge would replace or remove."""
    return f"SELECT t.place, t.position FROM {target} AS t {_outdated_by(spec, staging, quote)}"


def _compared(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """The staged rows as s, each joined with the table's row of its key as t and the age of its group there as g."""
    return (
        f"({_staged(spec, staging, quote)}) AS s "
        f"LEFT JOIN {target} AS t ON {_same(spec.key, 't', 's', quote)} "
        f"LEFT JOIN ({_ages(spec, target, quote, among=staging)}) AS g ON {_same(spec.unit, 'g', 's', quote)}"
    )


def _staged(spec: TableSpec, staging: str, quote: str) -> str:
    """The newest staged rows of each group, every key once."""
    by = f"{quote}{spec.newest_by}{quote}"
    picked = (
        f"SELECT ANY_VALUE(r) AS picked FROM {staging} AS r JOIN ({_ages(spec, staging, quote)}) AS a "
        f"ON {_same(spec.unit, 'a', 'r', quote)} AND a.{by} = r.{by} GROUP BY {columns(spec.key, quote, of='r')}"
    )
    return f"SELECT picked.* FROM ({picked}) AS p"


def _removed_rows(spec: TableSpec, names: Sequence[str], *, target: str, staging: str, quote: str) -> str:
    """Columns of the table's rows that are not staged but whose group is: the merge removes them."""
    by = f"{quote}{spec.newest_by}{quote}"
    return (
        f"SELECT {columns(names, quote, of='t')} FROM {target} AS t {_outdated_by(spec, staging, quote)} "
        f"LEFT JOIN ({_staged(spec, staging, quote)}) AS s ON {_same(spec.key, 't', 's', quote)} WHERE s.{by} IS NULL"
    )


def _outdated_by(spec: TableSpec, staging: str, quote: str) -> str:
    """A join that keeps the rows of t whose group is staged with newer rows."""
    by = f"{quote}{spec.newest_by}{quote}"
    return f"JOIN ({_ages(spec, staging, quote)}) AS n ON {_same(spec.unit, 'n', 't', quote)} AND n.{by} > t.{by}"


def _ages(spec: TableSpec, table: str, quote: str, *, among: str = "") -> str:
    """Each group of a table, or each that is in another table as well, with the time of its newest rows."""
    # GROUP BY, since BigQuery takes no FLOAT64 (start_s) in the PARTITION BY of a window.
    by, group = f"{quote}{spec.newest_by}{quote}", columns(spec.unit, quote)
    # A commit of few rows into a large table is not to aggregate all of it.
    only = (
        f" WHERE EXISTS (SELECT 1 FROM {among} AS y WHERE {_same(spec.unit, 'y', 'x', quote)})"
        if among
        else ""
    )
    return f"SELECT {group}, MAX({by}) AS {by} FROM {table} AS x{only} GROUP BY {group}"


def _same(names: Sequence[str], left: str, right: str, quote: str) -> str:
    return " AND ".join(f"{left}.{quote}{name}{quote} = {right}.{quote}{name}{quote}" for name in names)
