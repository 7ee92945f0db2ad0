"""The SQL of a commit, for all back ends; they differ in the quote and in how the newest row is picked.

Names come from a TableSpec, which takes only letters, digits and _; values are always parameters.
"""

from collections.abc import Sequence

from w2v2.table_spec import TableSpec


def columns(names: Sequence[str], quote: str, *, of: str = "") -> str:
    """Names quoted and joined, each with its table's alias where one is given."""
    prefix = f"{of}." if of else ""
    return ", ".join(f"{prefix}{quote}{name}{quote}" for name in names)


def count(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """One row: staged keys that are to be inserted, replaced, are unchanged, are stale."""
    new, old = f"s.{quote}{spec.newest_by}{quote}", f"t.{quote}{spec.newest_by}{quote}"
    key = columns(spec.key, quote)
    # GROUP BY, since BigQuery takes no FLOAT64 (start_s) in the PARTITION BY of a window.
    by = f"{quote}{spec.newest_by}{quote}"
    source = f"SELECT {key}, MAX({by}) AS {by} FROM {staging} GROUP BY {key}"
    cases = (f"{old} IS NULL", f"{new} > {old}", f"{new} = {old}", f"{new} < {old}")
    sums = ", ".join(
        f"COALESCE(SUM(CASE WHEN {case} THEN 1 ELSE 0 END), 0) AS n{i}" for i, case in enumerate(cases)
    )
    return f"SELECT {sums} FROM ({source}) AS s LEFT JOIN {target} AS t ON {_same_key(spec, quote)}"


def merge(spec: TableSpec, *, target: str, staging: str, newest: str, quote: str) -> str:
    """MERGE of the newest staged row of each key; newest is the aggregate that picks it from alias r."""
    names, value_names = spec.schema.names, [name for name in spec.schema.names if name not in spec.key]
    by = f"{quote}{spec.newest_by}{quote}"
    picked = f"SELECT {newest} AS picked FROM {staging} AS r GROUP BY {columns(spec.key, quote, of='r')}"
    updates = ", ".join(f"{quote}{name}{quote} = s.{quote}{name}{quote}" for name in value_names)
    return (
        f"MERGE INTO {target} AS t USING (SELECT picked.* FROM ({picked}) AS p) AS s "
        f"ON {_same_key(spec, quote)} "
        f"WHEN MATCHED AND s.{by} > t.{by} THEN UPDATE SET {updates} "
        f"WHEN NOT MATCHED THEN INSERT ({columns(names, quote)}) VALUES ({columns(names, quote, of='s')})"
    )


def dims(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """At most one row: values of dim_per whose vectors would have two lengths, least and greatest dim."""
    groups = columns(spec.dim_per, quote)
    both = " UNION ALL ".join(
        f"SELECT {groups}, {quote}dim{quote} FROM {table}" for table in (target, staging)
    )
    low, high = f"MIN({quote}dim{quote})", f"MAX({quote}dim{quote})"
    return (
        f"SELECT {groups}, {low} AS low, {high} AS high FROM ({both}) AS b "
        f"GROUP BY {groups} HAVING {low} < {high} LIMIT 1"
    )


def _same_key(spec: TableSpec, quote: str) -> str:
    return " AND ".join(f"t.{quote}{name}{quote} = s.{quote}{name}{quote}" for name in spec.key)


def fresh(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """Place and position of the staged rows that a merge would take in."""
    by = f"{quote}{spec.newest_by}{quote}"
    key = columns(spec.key, quote, of="r")
    picked = f"SELECT arg_max(r, r.{by}) AS picked FROM {staging} AS r GROUP BY {key}"
    return (
        f"SELECT s.place, s.position FROM (SELECT picked.* FROM ({picked}) AS p) AS s "
        f"LEFT JOIN {target} AS t ON {_same_key(spec, quote)} WHERE t.{by} IS NULL OR s.{by} > t.{by}"
    )


def dead(spec: TableSpec, *, target: str, staging: str, quote: str) -> str:
    """Place and position of the table's rows that a merge would replace."""
    by = f"{quote}{spec.newest_by}{quote}"
    key = columns(spec.key, quote)
    source = f"SELECT {key}, MAX({by}) AS {by} FROM {staging} GROUP BY {key}"
    return (
        f"SELECT t.place, t.position FROM {target} AS t JOIN ({source}) AS s "
        f"ON {_same_key(spec, quote)} WHERE s.{by} > t.{by}"
    )
