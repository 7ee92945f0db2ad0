"""The records of a CSV: commas, semicolons or tabs; UTF-8, UTF-16 or Windows-1252; an unclosed quote is reported."""

import csv
import io
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from w2v2.errors import UserError
from w2v2.storage.csv_text import plain_cell

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CsvCells:
    """The header of a CSV and its rows, numbered as a spreadsheet numbers them: the header is row 1."""

    header: Sequence[str]
    rows: Iterator[tuple[int, list[str]]]
    """Those that are not blank."""
    delimiter: str


def read_cells(content: bytes, *, shown_as: str) -> CsvCells:
    """The cells of the file, without spaces around them.

    Raises UserError for what is no text and, while rows are read, for what is no CSV.
    """
    text, delimiter = _delimited(_text(content, shown_as))
    records = _records(text, delimiter, shown_as)
    header = next(records, [])
    rows = ((number, cells) for number, cells in enumerate(records, start=2) if cells)
    return CsvCells(header=header, rows=rows, delimiter=delimiter)


def _delimited(text: str) -> tuple[str, str]:
    """The text from its header on, and what separates its columns."""
    first, _, rest = _first_line(text)
    # Excel names its separator in a line of its own where it is asked to.
    if named_separator := re.fullmatch("sep=(.)", first):
        return rest, named_separator[1]
    return text, _delimiter(first)


def _records(text: str, delimiter: str, shown_as: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = 0
    try:
        for cells in reader:
            if reader.line_num > before + 1:
                raise UserError(
                    f"{shown_as}: the row that begins in line {before + 1} continues to line {reader.line_num}, as a quote "
                    "is open or a cell has several lines; close the quote, or write the cell on one line"
                )
            before = reader.line_num
            yield [plain_cell(cell.strip()) for cell in cells]
    except csv.Error as error:
        raise UserError(
            f"{shown_as} is not CSV from line {before + 1} on ({error}): look for an open quote"
        ) from error


def _first_line(text: str) -> tuple[str, str, str]:
    line_end = re.search("\r\n|\r|\n", text)
    return (text[: line_end.start()], line_end[0], text[line_end.end() :]) if line_end else (text, "", "")


def _text(data: bytes, shown_as: str) -> str:
    """UTF-8, UTF-16, or what Excel writes in western countries.

    A UTF-8 file in which a few bytes are something else keeps those as surrogates: their rows alone are rejects.
    """
    try:
        return data.decode(_unicode_encoding(data))
    except UnicodeDecodeError as error:
        lenient = data.decode("utf-8-sig", errors="surrogateescape")
        if any(ord(letter) > 127 and not "\udc80" <= letter <= "\udcff" for letter in lenient):
            return lenient
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


def _unicode_encoding(data: bytes) -> str:
    """UTF-16 by its byte order mark or, as no name of a column begins with NUL, by where its zeros are; else UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    zeros = [data[i : i + 4 : 2] == b"\0\0" for i in (0, 1)]
    return "utf-16-be" if zeros[0] else "utf-16-le" if zeros[1] else "utf-8-sig"


def _delimiter(header: str) -> str:
    """What separates the columns: of comma, semicolon and tab the one that the header has most of."""
    bare = re.sub('"[^"]*"', "", header)
    return max(",;\t", key=bare.count)
