"""Tables as CSV whose cells no spreadsheet takes for formulas."""

import csv
import io

import pyarrow as pa

from w2v2.storage.parquet import each_row

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_csv(rows: pa.Table) -> bytes:
    """A CSV in UTF-8 with a header; numbers have all digits, so that they read back the same."""
    sink = io.BytesIO()
    text = io.TextIOWrapper(sink, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.column_names)
    writer.writerows([safe_cell(value) for value in row.values()] for row in each_row(rows))
    text.detach()  # which writes what it holds
    return sink.getvalue()


def safe_cell(value: object) -> object:
    """The value; a text that a spreadsheet would take for a formula gets an apostrophe in front.

    So does a text that has one already, so that `plain_cell` gives every text back.

    >>> safe_cell("=1+1"), safe_cell("'=1+1"), safe_cell("angry"), safe_cell(-1.5)
    ("'=1+1", "''=1+1", 'angry', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def plain_cell(cell: str) -> str:
    """The text of a cell without the apostrophe that keeps it from being a formula.

    >>> plain_cell("'=1+1"), plain_cell("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(text: str) -> bool:
    """Whether a text, without apostrophes in front of it, begins as a formula does."""
    return text.lstrip("'").startswith(FORMULA_STARTS)
