"""Queries of the fake BigQuery in DuckDB's words, and their rows as BigQuery writes them."""

import datetime
import functools
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp

from tests.cloud.http import HttpError


@dataclass
class Answer:
    """Result of a query: schema, rows as BigQuery writes them, and for DML the number of changed rows."""

    fields: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    num_changed: int | None = None


@functools.lru_cache(maxsize=256)
def parsed_query(query: str) -> tuple[exp.Expression, str]:
    """A query as a tree, which nobody changes, and in DuckDB's words; the same one is asked again and again."""
    tree = sqlglot.parse_one(query, read="bigquery")
    return tree, tree.sql(dialect="duckdb")


def parameter_value(parameter: dict[str, Any]) -> Any:
    text = parameter["parameterValue"]["value"]
    match parameter["parameterType"]["type"]:
        case "STRING":
            return text
        case "INT64":
            return int(text)
        case "FLOAT64":
            return float(text)
        case kind:
            raise HttpError(501, f"not in this fake: a parameter of type {kind}")


def answer_of(table: pa.Table) -> Answer:
    fields = []
    for column in table.schema:
        is_list = pa.types.is_list(column.type)
        kind = _kind(column.type.value_type if is_list else column.type)
        fields.append({"name": column.name, "type": kind, "mode": "REPEATED" if is_list else "NULLABLE"})
    rows = [{"f": [{"v": _cell(value)} for value in row.values()]} for row in table.to_pylist()]
    return Answer(fields=fields, rows=rows)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP"
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return "INTEGER"
    return {pa.string(): "STRING", pa.float64(): "FLOAT", pa.bool_(): "BOOLEAN", pa.date32(): "DATE"}[kind]


def _cell(value: Any) -> Any:
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case list():
            return [{"v": _cell(each)} for each in value]
        case datetime.datetime():
            epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
            return str((value - epoch) // datetime.timedelta(microseconds=1))
        case float():
            return repr(value)
        case _:
            return str(value)
