"""Tables of labels, CSV, Parquet or a spreadsheet, as cells of text: every mistake names the file and its columns."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from w2v2.data.corpora import csv_reader, parquet_reader, workbook_reader
from w2v2.errors import ClipError, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted

TEXT_SUFFIXES = (".csv", ".tsv", ".tab")
PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *PARQUET_SUFFIXES, *workbook_reader.SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """A table whose header has been read; all cells are text without spaces around it, '' for missing values."""

    shown_as: str
    """How messages name it."""
    header: Sequence[str]
    rows: Iterator[tuple[int, list[str]]]
    """The rows that are not blank, with their numbers as in a spreadsheet: the header of a CSV is row 1. Parquet
    counts its rows from 1."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Columns whose values are not single cells, such as lists, and their types."""
    has_decimal_commas: bool = False
    """Whether 1,5 is a number, as Excel writes it where it separates columns by semicolons."""
    hint: str = ""
    """What may be wrong with the file where it lacks a column."""

    def need(self, name: str, todo: str) -> None:
        """Raises UserError if the table lacks this column; todo is what to do about it."""
        if name not in self.header:
            raise UserError(
                f"{self.shown_as} has no column {name!r}, its columns are {quoted(self.header) or 'none'}: {todo}{self.hint}"
            )

    def need_columns(self, names: Sequence[str]) -> None:
        """Raises UserError if the table lacks one of these extra columns."""
        if lost := [name for name in names if name not in self.header]:
            raise UserError(
                f"{self.shown_as} has no column {lost[0]!r}, its columns are {quoted(self.header)}"
            )

    def spelled(self, name: str) -> str:
        """The column of that name as the header spells it, in upper or lower case; '' if the table lacks it."""
        if name in self.header:
            return name
        return next((column for column in self.header if column.lower() == name.lower()), "")

    def places(self, names: Iterable[str]) -> dict[str, int]:
        """Positions in a row of the columns with these names, as far as they exist.

        Raises UserError for a duplicate and for a column whose values are no cells.
        """
        present = [name for name in dict.fromkeys(names) if name in self.header]
        if double := [name for name in present if self.header.count(name) > 1]:
            raise UserError(f"{self.shown_as} has two columns {double[0]!r}: rename one of them")
        if nested := [name for name in present if name in self.unreadable]:
            raise UserError(
                f"{self.shown_as}: column {nested[0]!r} holds {self.unreadable[nested[0]]}, wanted text, numbers or dates: "
                "write a column of them, or name another one"
            )
        return {name: self.header.index(name) for name in present}

    def with_numbers(self, cells: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
        """The cells; where the file has decimal commas, numbers in these columns get a decimal point."""
        return (
            {
                name: re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", cell) if name in names else cell
                for name, cell in cells.items()
            }
            if self.has_decimal_commas
            else dict(cells)
        )

    def check_width(self, cells: Sequence[str]) -> None:
        """Raises ClipError for a row with more or fewer fields than the header."""
        if len(cells) != len(self.header):
            raise ClipError("wrong number of fields", f"{len(cells)}, the header has {len(self.header)}")


def is_table(uri: str) -> bool:
    """Whether the file is a table of labels, by its suffix."""
    return uri.lower().endswith(TABLE_SUFFIXES)


def open_table(uri: str, *, shown_as: str, sheet: str = "") -> LabelTable:
    """The table in a CSV (UTF-8, UTF-16 or Windows-1252), Parquet or spreadsheet file, by its suffix; another suffix is read as CSV.

    sheet is the name of a spreadsheet's sheet; '' is its first one. Raises UserError for a file that is not what its
    suffix says and, while rows are read, for a malformed CSV.
    """
    suffix = PurePosixPath(uri).suffix.lower()
    if sheet and suffix not in workbook_reader.SUFFIXES:
        raise UserError(f"data.sheet={sheet!r} is for spreadsheets, got {shown_as}: leave it out")
    content = storage.read_bytes(uri)
    if suffix in workbook_reader.SUFFIXES:
        chosen = workbook_reader.read_sheet(content, shown_as=shown_as, sheet=sheet)
        hint = f", or choose another sheet by --data.sheet ({quoted(chosen.others)})" if chosen.others else ""
        return LabelTable(
            shown_as=f"{shown_as} (sheet {chosen.name!r})",
            header=chosen.header,
            rows=chosen.rows,
            hint=hint,
        )
    if suffix in PARQUET_SUFFIXES:
        cells = parquet_reader.read_cells(content, shown_as=shown_as)
        return LabelTable(
            shown_as=shown_as, header=cells.header, rows=cells.rows, unreadable=cells.unreadable
        )
    text = csv_reader.read_cells(content, shown_as=shown_as)
    alone = ", and put commas, semicolons or tabs between the columns" if len(text.header) < 2 else ""
    return LabelTable(
        shown_as=shown_as,
        header=text.header,
        rows=text.rows,
        has_decimal_commas=text.delimiter != ",",
        hint=alone,
    )


def named(cells: Sequence[str], places: Mapping[str, int]) -> dict[str, str]:
    """The cells by the names of their columns; a row that is too short lacks some."""
    return {name: cells[i] for name, i in places.items() if i < len(cells)}
