"""A Parquet file of labels as cells of text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from w2v2.data.corpora.cells import cell_text
from w2v2.errors import UserError

_UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, kw_only=True)
class ParquetCells:
    """The columns of a file and its rows, numbered from 1."""

    header: Sequence[str]
    rows: Iterator[tuple[int, list[str]]]
    unreadable: Mapping[str, str]
    """Columns whose values are no single cells, and their type; their cells are empty."""


def read_cells(content: bytes, *, shown_as: str) -> ParquetCells:
    """The cells of the file; columns of lists, structures or bytes are not read. Raises UserError for another kind of file."""
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        header = file.schema_arrow.names
        nested = {
            column.name: str(column.type) for column in file.schema_arrow if not _is_readable(column.type)
        }
        table = file.read(columns=[name for name in header if name not in nested])
        columns = dict(zip(table.column_names, map(_texts, table.columns), strict=True))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{shown_as} cannot be read as Parquet ({str(error).splitlines()[0]}): write it again, or as CSV UTF-8"
        ) from error
    empty = [""] * len(table)
    rows = enumerate(zip(*(columns.get(name, empty) for name in header), strict=True), start=1)
    filled = ((number, list(cells)) for number, cells in rows if any(cells))
    return ParquetCells(header=header, rows=filled, unreadable=nested)


def _is_readable(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return not (pa.types.is_nested(kind) or binary or pa.types.is_interval(kind))


def _texts(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_duration(column.type):
        column = pc.divide(column.cast(pa.int64()).cast(pa.float64()), _UNITS_PER_S[column.type.unit])
    elif pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return [cell_text(value) for value in column.to_pylist()]
