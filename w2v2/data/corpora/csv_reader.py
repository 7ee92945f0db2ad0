"""The records of a CSV: commas, semicolons or tabs; UTF-8, UTF-16 or Windows-1252; an unclosed quote is reported."""

import codecs
import csv
import io
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from w2v2.errors import UserError
from w2v2.storage.csv_text import plain_cell

logger = logging.getLogger(__name__)

CHECKED_BYTES = 2**20
"""Bytes that are decoded at a time to find out whether a file is text."""


@dataclass(frozen=True, kw_only=True)
class CsvCells:
    """The header of a CSV and its rows, numbered as a spreadsheet numbers them: the header is row 1."""

    header: Sequence[str]
    rows: Iterator[tuple[int, list[str]]]
    """The rows that are not blank."""
    delimiter: str


def read_cells(content: bytes, *, shown_as: str) -> CsvCells:
    """The cells of the file, without spaces around them.

    Raises UserError for what is no text and, while rows are read, for what is no CSV.
    """
    lines, delimiter = _delimited(content, *_encoding(content, shown_as))
    records = _records(lines, delimiter, shown_as)
    header = next(records, [])
    rows = ((number, cells) for number, cells in enumerate(records, start=2) if cells)
    return CsvCells(header=header, rows=rows, delimiter=delimiter)


def _delimited(content: bytes, encoding: str, errors: str) -> tuple[Iterable[str], str]:
    """The lines of the text from its header on, decoded as they are read, and the character that separates columns."""
    first = _lines(content, encoding, errors).readline().rstrip("\r\n")
    lines = _lines(content, encoding, errors)
    # Excel names its separator in a line of its own where it is asked to.
    if named_separator := re.fullmatch("sep=(.)", first):
        lines.readline()
        return lines, named_separator[1]
    return lines, _delimiter(first)


def _lines(content: bytes, encoding: str, errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding=encoding, errors=errors, newline="")


def _records(lines: Iterable[str], delimiter: str, shown_as: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
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


def _encoding(data: bytes, shown_as: str) -> tuple[str, str]:
    """The encoding (UTF-8, UTF-16, or Windows-1252, which Excel writes in western countries), and how invalid bytes are decoded.

    In a UTF-8 file a few invalid bytes become surrogates, so that only their rows are rejects.
    """
    encoding = _unicode_encoding(data)
    if (at := _first_undecodable(data, encoding)) is None:
        return encoding, "strict"
    lenient = data.decode("utf-8-sig", errors="surrogateescape")
    if any(ord(letter) > 127 and not "\udc80" <= letter <= "\udcff" for letter in lenient):
        return "utf-8-sig", "surrogateescape"
    if _first_undecodable(data, "cp1252") is not None:
        raise UserError(
            f"{shown_as} is neither UTF-8 (byte {at}) nor Windows-1252 text: save it as CSV UTF-8"
        )
    if b"\0" in data:
        raise UserError(f"{shown_as} is no text (it holds NUL characters): save it as CSV UTF-8")
    logger.warning(
        "%s is not UTF-8: read as Windows-1252, as Excel writes it; look at names with accents", shown_as
    )
    return "cp1252", "strict"


def _first_undecodable(data: bytes, encoding: str) -> int | None:
    """The place of the first byte that is not text in this encoding; None where all is. The text is never held whole."""
    decoder = codecs.getincrementaldecoder(encoding)()
    for at in range(0, len(data) + 1, CHECKED_BYTES):
        held = len(decoder.getstate()[0])
        try:
            decoder.decode(data[at : at + CHECKED_BYTES], final=at + CHECKED_BYTES > len(data))
        except UnicodeDecodeError as error:
            return at - held + error.start
    return None


def _unicode_encoding(data: bytes) -> str:
    """UTF-16 by its byte order mark or, as no name of a column begins with NUL, by where its zeros are; else UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    zeros = [data[i : i + 4 : 2] == b"\0\0" for i in (0, 1)]
    return "utf-16-be" if zeros[0] else "utf-16-le" if zeros[1] else "utf-8-sig"


def _delimiter(header: str) -> str:
    """The character that separates columns: comma, semicolon or tab, whichever the header has most often."""
    bare = re.sub('"[^"]*"', "", header)
    return max(",;\t", key=bare.count)
