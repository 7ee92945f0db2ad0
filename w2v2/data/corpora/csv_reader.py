"""CSV files as cells of text: a header, commas, semicolons or tabs; every mistake names the file and its columns."""

import csv
import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from w2v2.data.corpora.rows import listed
from w2v2.errors import ClipError, UserError
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CsvFile:
    """A CSV whose header has been read."""

    shown_as: str
    """How messages name it."""
    header: Sequence[str]
    rows: Iterator[tuple[int, list[str]]]
    """The rows that are not blank, with their numbers as in a spreadsheet: the header is row 1."""

    def need(self, name: str, todo: str) -> None:
        """Raises UserError where there is no such column."""
        if name not in self.header:
            alone = ", and put commas, semicolons or tabs between the columns" if len(self.header) < 2 else ""
            raise UserError(
                f"{self.shown_as} has no column {name!r}, its columns are {listed(self.header) or 'none'}: {todo}{alone}"
            )

    def need_carried(self, names: Sequence[str]) -> None:
        """Raises UserError where one of these further columns is missing."""
        if lost := [name for name in names if name not in self.header]:
            raise UserError(
                f"{self.shown_as} has no column {lost[0]!r} to carry along, its columns are {listed(self.header)}"
            )

    def spelled(self, name: str) -> str:
        """The column of that name as the header spells it, upper or lower case; empty where there is none."""
        if name in self.header:
            return name
        return next((own for own in self.header if own.lower() == name.lower()), "")

    def places(self, names: Iterable[str]) -> dict[str, int]:
        """Positions in a row of the columns of these names, of those that exist.

        Raises UserError for a duplicate.
        """
        there = [name for name in dict.fromkeys(names) if name in self.header]
        if double := [name for name in there if self.header.count(name) > 1]:
            raise UserError(f"{self.shown_as} has two columns {double[0]!r}: rename one of them")
        return {name: self.header.index(name) for name in there}

    def check_width(self, cells: Sequence[str]) -> None:
        """Raises ClipError for a row with more or fewer fields than the header."""
        if len(cells) != len(self.header):
            raise ClipError("wrong number of fields", f"{len(cells)}, the header has {len(self.header)}")


def open_csv(uri: str, *, shown_as: str) -> CsvFile:
    """The CSV, in UTF-8, UTF-16 or Windows-1252, cells without spaces around them.

    Raises UserError for what is no text and, while rows are read, for what is no CSV.
    """
    records = _records(uri, shown_as)
    header = next(records, [])
    return CsvFile(shown_as=shown_as, header=header, rows=_numbered(records))


def named(cells: Sequence[str], places: Mapping[str, int]) -> dict[str, str]:
    """The cells by the names of their columns; a row that is too short lacks some."""
    return {name: cells[i] for name, i in places.items() if i < len(cells)}


def _records(uri: str, shown_as: str) -> Iterator[list[str]]:
    text = _text(storage.read_bytes(uri), shown_as)
    # Excel names its separator in a line of its own where it is asked to.
    first, _, rest = text.partition("\n")
    if named_separator := re.fullmatch("sep=(.)\r?", first):
        text, delimiter = rest, named_separator[1]
    else:
        delimiter = _delimiter(first)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = 0
    try:
        for cells in reader:
            if reader.line_num > before + 1:
                raise UserError(
                    f"{shown_as}: the row that begins in line {before + 1} goes on to line {reader.line_num}, as a quote "
                    "is open or a cell has several lines; close the quote, or write the cell on one line"
                )
            before = reader.line_num
            yield [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UserError(
            f"{shown_as} is not CSV from line {before + 1} on ({error}): look for an open quote"
        ) from error


def _text(data: bytes, shown_as: str) -> str:
    """UTF-8, UTF-16 with a byte order mark, or what Excel writes in western countries."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise UserError(
                f"{shown_as} is neither UTF-8 (byte {error.start}) nor Windows-1252 text: save it as CSV UTF-8"
            ) from error
    if "\0" in text:
        raise UserError(f"{shown_as} is no text (it holds NUL characters): save it as CSV UTF-8")
    logger.warning(
        "%s is not UTF-8: read as Windows-1252, as Excel writes it; look at names with accents", shown_as
    )
    return text


def _delimiter(header: str) -> str:
    """What separates the columns: of comma, semicolon and tab the one that the header has most of."""
    bare = re.sub('"[^"]*"', "", header)
    return max(",;\t", key=bare.count)


def _numbered(records: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return ((number, cells) for number, cells in enumerate(records, start=2) if cells)
