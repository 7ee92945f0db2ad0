"""Tables of a page as files: CSV with the raw values, LaTeX with the values as the page shows them."""

import csv
import io
import re
from collections.abc import Sequence

from w2v2.reports.blocks import Cell, Column, Link, MeanCell, ScoreCell, Sound, Table
from w2v2.storage.csv_text import safe_cell

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def csv_text(table: Table) -> str:
    """The table as CSV, numbers with all their digits; a score with an interval takes three columns."""
    parts = [_parts([row[i] for row in table.rows]) for i in range(len(table.columns))]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        safe_cell(f"{c.name}{part}")
        for c, suffixes in zip(table.columns, parts, strict=True)
        for part in suffixes
    )
    for row in table.rows:
        cells = [(_raw(cell), suffixes) for cell, suffixes in zip(row, parts, strict=True)]
        writer.writerow([safe_cell(raw.get(part)) for raw, suffixes in cells for part in suffixes])
    return file.getvalue()


def _parts(cells: Sequence[Cell]) -> list[str]:
    """The suffixes of a column's parts in the CSV: "" alone, or also " low" and " high", or " std"."""
    return list(dict.fromkeys(part for cell in cells for part in _raw(cell))) or [""]


def _raw(cell: Cell) -> dict[str, str | float | None]:
    return cell.raw() if isinstance(cell, ScoreCell | MeanCell | Sound | Link) else {"": cell}


def latex_text(table: Table) -> str:
    """The table as a LaTeX tabular of package booktabs, with its caption as a comment."""
    marks = "".join("r" if column.is_number else "l" for column in table.columns)
    lines = [
        f"% {' '.join(table.caption.split())}",
        f"\\begin{{tabular}}{{{marks}}}",
        r"\toprule",
        _latex_line([column.name for column in table.columns]),
        r"\midrule",
        *(_latex_line(_shown(table.columns, row)) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _shown(columns: Sequence[Column], row: Sequence[Cell]) -> list[str]:
    return [column.text_of(cell) for column, cell in zip(columns, row, strict=True)]


def _latex_line(cells: Sequence[str]) -> str:
    escaped = (re.sub(r"[\\~^±&%$#_{}]", lambda match: _LATEX[match[0]], " ".join(c.split())) for c in cells)
    return " & ".join(escaped) + r" \\"
