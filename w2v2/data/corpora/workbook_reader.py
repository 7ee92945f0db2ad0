"""One sheet of a spreadsheet file, .xlsx, .xlsm, .xlsb, .xls or .ods, as cells of text."""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from w2v2.data.corpora.cells import cell_text
from w2v2.errors import UserError
from w2v2.wording import quoted

logger = logging.getLogger(__name__)

SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A sheet whose first row that is not blank is its header."""

    name: str
    others: Sequence[str]
    """The other sheets of the file."""
    header: Sequence[str]
    rows: Iterator[tuple[int, list[str]]]
    """The rows below the header that are not blank, with the numbers that the spreadsheet shows."""


def read_sheet(content: bytes, *, shown_as: str, sheet: str = "") -> Sheet:
    """The sheet of that name; without a name the first visible sheet, with a warning if there are others.

    Formulas have the value that was stored with them, errors such as #N/A are missing values. Raises UserError for a
    file that is not a spreadsheet or has a password, and for a sheet that it lacks.
    """
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetVisibleEnum

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(content))
        visible = [entry.name for entry in book.sheets_metadata if entry.visible == SheetVisibleEnum.Visible]
        name = _chosen(visible or book.sheet_names, book.sheet_names, sheet, shown_as)
        values = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except PasswordError as error:
        raise UserError(f"{shown_as} has a password: save it without one, or as CSV UTF-8") from error
    except CalamineError as error:
        raise UserError(
            f"{shown_as} cannot be read as a spreadsheet ({error}): save it as .xlsx again, or as CSV UTF-8"
        ) from error
    rows = _not_blank(values)
    _, header = next(rows, (0, []))
    # Cells that were formatted or emptied count as columns of the sheet.
    width = max((i for i, cell in enumerate(header, start=1) if cell), default=0)
    return Sheet(
        name=name,
        others=[sheet_name for sheet_name in book.sheet_names if sheet_name != name],
        header=header[:width],
        rows=((number, cells[:width]) for number, cells in rows),
    )


def _chosen(visible: Sequence[str], all_: Sequence[str], sheet: str, shown_as: str) -> str:
    if sheet:
        if sheet not in all_:
            raise UserError(
                f"data.sheet={sheet!r} is not in {shown_as}, its sheets are {quoted(all_)}: name one of these"
            )
        return sheet
    if not visible:
        raise UserError(f"{shown_as} has no sheet: save the table as .xlsx again, or as CSV UTF-8")
    if len(visible) > 1:
        logger.warning(
            "%s: the first sheet, %r, is read, and not %s; --data.sheet chooses another",
            shown_as, visible[0], quoted(visible[1:]),
        )  # fmt: skip
    return visible[0]


def _not_blank(values: Sequence[Sequence[object]]) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(values, start=1):
        cells = [cell_text(value) for value in row]
        if any(cells):
            yield number, cells
