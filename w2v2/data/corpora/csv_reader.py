"""CSV files as cells of text: UTF-8, commas, a header; every mistake names the file and its columns."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from w2v2.data.corpora.rows import listed
from w2v2.errors import ClipError, UserError
from w2v2.storage import files as storage


@dataclass(frozen=True, kw_only=True)
class CsvFile:
    """A CSV whose header has been read."""

    told: str
    """How messages name it."""
    header: Sequence[str]
    rows: Iterator[tuple[int, list[str]]]
    """The rows that are not blank, with their numbers as in a spreadsheet: the header is row 1."""

    def need(self, name: str, todo: str) -> None:
        """Raises UserError where there is no such column."""
        if name not in self.header:
            alone = ", and put commas between the columns" if len(self.header) < 2 else ""
            raise UserError(
                f"{self.told} has no column {name!r}, its columns are {listed(self.header) or 'none'}: {todo}{alone}"
            )

    def need_carried(self, names: Sequence[str]) -> None:
        """Raises UserError where one of these further columns is missing."""
        if lost := [name for name in names if name not in self.header]:
            raise UserError(
                f"{self.told} has no column {lost[0]!r} to carry along, its columns are {listed(self.header)}"
            )

    def spelled(self, name: str) -> str:
        """The column of that name as the header spells it, upper or lower case; empty where there is none."""
        if name in self.header:
            return name
        return next((own for own in self.header if own.lower() == name.lower()), "")

    def places(self, names: Iterable[str]) -> dict[str, int]:
        """Where in a row the columns of these names stand, of those that are there.

        Raises UserError for one that stands twice.
        """
        there = [name for name in dict.fromkeys(names) if name in self.header]
        if double := [name for name in there if self.header.count(name) > 1]:
            raise UserError(f"{self.told} has two columns {double[0]!r}: rename one of them")
        return {name: self.header.index(name) for name in there}

    def check_width(self, cells: Sequence[str]) -> None:
        """Raises ClipError for a row with more or fewer fields than the header."""
        if len(cells) != len(self.header):
            raise ClipError("wrong number of fields", f"{len(cells)}, the header has {len(self.header)}")


def open_csv(uri: str, *, told: str) -> CsvFile:
    """The CSV, in UTF-8 with or without a byte order mark, cells without spaces around them.

    Raises UserError for what is no text and, while rows are read, for what is no CSV.
    """
    records = _records(uri, told)
    header = next(records, [])
    return CsvFile(told=told, header=header, rows=_numbered(records))


def named(cells: Sequence[str], places: Mapping[str, int]) -> dict[str, str]:
    """The cells by the names of their columns; a row that is too short lacks some."""
    return {name: cells[i] for name, i in places.items() if i < len(cells)}


def _records(uri: str, told: str) -> Iterator[list[str]]:
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{told} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for cells in reader:
            yield [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UserError(
            f"{told} is not CSV from line {reader.line_num} on ({error}): look for an open quote"
        ) from error


def _numbered(records: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return ((number, cells) for number, cells in enumerate(records, start=2) if cells)
