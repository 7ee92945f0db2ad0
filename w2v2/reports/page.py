"""Writes the page of a run with its figures and tables, and the index of the runs in its folder."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from w2v2.redaction import redacted, without_home
from w2v2.reports.blocks import Section, tables_of
from w2v2.reports.drawing import page_html
from w2v2.reports.index_page import write_index
from w2v2.reports.table_files import csv_text, latex_text
from w2v2.storage import files as storage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


def write_page(
    run: str, title: str, sections: Sequence[Section], *, kicker: str, figures: Mapping[str, "Figure"]
) -> str:
    """The uri of `<run>/report.html`, written with `<run>/plots/*.png` and `<run>/tables/*.{csv,tex}`.

    index.html, which lists the runs of the folder, is updated.
    """
    files: dict[tuple[str, ...], bytes] = _pictures(figures) if figures else {}
    for table in tables_of([block for section in sections for block in section.blocks]):
        if table.is_exported:
            files["tables", f"{table.name}.csv"] = redacted(without_home(csv_text(table))).encode()
            files["tables", f"{table.name}.tex"] = redacted(without_home(latex_text(table))).encode()
    storage.write_many(((storage.join(run, *path), data) for path, data in files.items()), num_at_once=8)
    uri = storage.join(run, "report.html")
    storage.write_text(uri, redacted(page_html(title, sections, kicker=kicker)))
    logger.info("wrote %s, %d plots and their tables", uri, len(figures))
    write_index(run)
    return uri


def _pictures(figures: Mapping[str, "Figure"]) -> dict[tuple[str, ...], bytes]:
    """The figures as files of plots/."""
    from w2v2.reports.plots.style import (
        png,  # imports matplotlib, for which a page without figures need not wait
    )

    return {("plots", f"{name}.png"): png(figure) for name, figure in figures.items()}
