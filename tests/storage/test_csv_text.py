"""No cell of a CSV is a formula, and every text is read back as it was."""

import csv
import io

import pyarrow as pa
import pytest

from w2v2.reports.blocks import Column, Table
from w2v2.reports.table_files import csv_text
from w2v2.storage.csv_text import plain_cell, to_csv

TEXTS = ["'=1+1", "''@x", "=1+1", "+1", "-1", "@x", "\tx", "a=b", "", "'tis", "it's", "''"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_back_and_is_no_formula(text: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(pa.table({"a": [text], "b": [-0.5]})).decode())))
    assert rows[0] == ["a", "b"] and rows[1][1] == "-0.5"
    assert not rows[1][0].startswith(("=", "+", "-", "@", "\t")) and plain_cell(rows[1][0]) == text


def test_tables_of_pages_hold_no_formulas_either() -> None:
    table = Table("t", [Column("=clip"), Column("n", is_number=True)], [["=1+1", -0.5], ["@x", 1]], "")
    assert csv_text(table).splitlines() == ["'=clip,n", "'=1+1,-0.5", "'@x,1"]
