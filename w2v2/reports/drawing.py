"""Draws the blocks of a page through jinja2 templates.

A page needs no network and no scripts, and its own policy forbids both; every word from data is escaped.
jinja2 is imported when a page is drawn, so that a job does not wait for it at its start.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from w2v2.redaction import without_home
from w2v2.reports.blocks import Link, Picture, Section, Sound, Table

if TYPE_CHECKING:
    import jinja2
    import markupsafe

TEMPLATES = Path(__file__).parent / "templates"
CHARACTER_REM = 0.46
"""The mean width of a character in a table."""


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

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every text on its way to the page passes here.
        finalize=lambda value: without_home(value) if type(value) is str else value,
    )
    templates.tests["sound"] = lambda cell: isinstance(cell, Sound)
    templates.tests["link"] = lambda cell: isinstance(cell, Link)
    templates.filters["svg"] = _svg
    templates.filters["width_rem"] = _width_rem
    templates.filters["table_rem"] = _table_rem
    return templates


def _svg(picture: Picture) -> "markupsafe.Markup":
    from markupsafe import Markup

    from w2v2.reports.plots.style import svg

    # matplotlib has escaped the words in it.
    return Markup(svg(picture.figure, name=picture.name))


def _width_rem(picture: Picture) -> str:
    """The width of a figure: small figures are shown small, so that text has the same size in all figures."""
    from w2v2.reports.plots.style import WIDTH

    return f"{min(68.0, 34 / WIDTH * picture.figure.get_figwidth()):.3g}"


def _table_rem(table: Table) -> float:
    """About how wide a table is whose cells are on one line each, those of class long excepted."""
    columns = zip(*([column.name for column in table.columns], *_texts(table)), strict=True)
    return sum(0.8 + CHARACTER_REM * min(max(map(len, column)), 24) for column in columns)


def _texts(table: Table) -> list[list[str]]:
    return [
        [column.text_of(cell) for column, cell in zip(table.columns, row, strict=True)] for row in table.rows
    ]
