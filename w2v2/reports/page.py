"""Draws the blocks of a page through jinja2 templates, and writes page, figures and tables of a run.

A page needs no network and no scripts, and its own policy forbids both; every word from data is escaped.
jinja2 and matplotlib are imported when a page is drawn, so that a job does not wait for them at its start.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2v2.redaction import redacted
from w2v2.reports.blocks import Picture, Section, Sound, tables_of
from w2v2.reports.table_files import csv_text, latex_text
from w2v2.reports.text import without_home
from w2v2.storage import files as storage

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parent / "templates"


def write_page(
    run: str, title: str, sections: Sequence[Section], *, kicker: str, figures: Mapping[str, "Figure"]
) -> str:
    """The uri of `<run>/report.html`, written with `<run>/plots/*.png` and `<run>/tables/*.{csv,tex}`."""
    from w2v2.reports.plots.style import png

    files = {("plots", f"{name}.png"): png(figure) for name, figure in figures.items()}
    for table in tables_of([block for section in sections for block in section.blocks]):
        if table.is_exported:
            files["tables", f"{table.name}.csv"] = redacted(without_home(csv_text(table))).encode()
            files["tables", f"{table.name}.tex"] = redacted(without_home(latex_text(table))).encode()
    storage.write_many(((storage.join(run, *path), data) for path, data in files.items()), num_at_once=8)
    uri = storage.join(run, "report.html")
    storage.write_text(uri, redacted(page_html(title, sections, kicker=kicker)))
    logger.info("wrote %s, %d plots and their tables", uri, len(figures))
    return uri


def page_html(title: str, sections: Sequence[Section], *, kicker: str) -> str:
    """One HTML document of the sections that have blocks."""
    return (
        environment()
        .get_template("page.html")
        .render(title=title, kicker=kicker, sections=[section for section in sections if section.blocks])
    )


def environment() -> "jinja2.Environment":
    """The templates of reports/templates, with autoescape; an unknown variable is an error."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every text on its way to the page passes here.
        finalize=lambda value: without_home(value) if type(value) is str else value,
    )
    found.tests["sound"] = lambda cell: isinstance(cell, Sound)
    found.filters["svg"] = _svg
    found.filters["width_rem"] = _width_rem
    return found


def _svg(picture: Picture) -> Any:
    from markupsafe import Markup

    from w2v2.reports.plots.style import svg

    # matplotlib has escaped the words in it.
    return Markup(svg(picture.figure, name=picture.name))


def _width_rem(picture: Picture) -> str:
    """A small figure is shown small: its words are as large as those of the others."""
    from w2v2.reports.plots.style import WIDTH

    return f"{min(68.0, 34 / WIDTH * picture.figure.get_figwidth()):.3g}"
