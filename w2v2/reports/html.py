"""The reusable parts of one HTML page: no network, no scripts, every word from data escaped.

A function that ends in _tag returns HTML and escapes what it is given; a section is a heading and its HTML.
"""

import html
import re
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from w2v2.reports import plots

Cell = str | int | float

LIGHT = (
    "--ink:#1c2024;--muted:#5c656d;--rule:#d9dcdf;--paper:#fdfdfc;--tint:#f3f4f4;--cell:#00508a;"
    "--blue:#0072b2;--vermillion:#c75300;--green:#008a65;--purple:#b8608f;--sky:#3a9fd6;--orange:#c98600"
)
DARK = (
    "--ink:#e3e6e8;--muted:#98a2aa;--rule:#363d43;--paper:#14171a;--tint:#1d2125;--cell:#5fb2e8;"
    "--blue:#5fb2e8;--vermillion:#f28c4f;--green:#43c79d;--purple:#dda3c4;--sky:#93d2f5;--orange:#efbd52"
)
CSS = (
    f":root{{color-scheme:light dark;{LIGHT}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{DARK}}}}}"
    """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);counter-reset:figure table;
 font:1.0625rem/1.55 Charter,"Bitstream Charter","Iowan Old Style","Source Serif 4",Georgia,serif}
main{max-width:62rem;margin:0 auto;padding:2.2rem 1.2rem 4rem}
.kicker,figcaption,.caption,table,dl,.score small,.verdict,code,summary{
 font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.kicker{margin:0;font-size:.8rem;letter-spacing:.04em;color:var(--muted)}
h1{font-size:1.9rem;line-height:1.2;font-weight:600;margin:.3rem 0 1.6rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;font-weight:600;margin:3.2rem 0 .8rem;padding-top:.7rem;border-top:1px solid var(--rule)}
p,ul{max-width:42rem;margin:.7rem 0;overflow-wrap:anywhere}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:0 2.4rem;
 align-items:start}
.scores{display:flex;flex-wrap:wrap;gap:.8rem 1.6rem;align-items:baseline;margin-bottom:1rem}
.score{font-size:4.4rem;line-height:1;font-weight:600;color:var(--blue);letter-spacing:-.02em;
 font-variant-numeric:lining-nums}
.score+.score{font-size:2.3rem;color:var(--vermillion)}
.score small{display:block;font-size:.95rem;line-height:1.4;letter-spacing:0;color:var(--ink);font-weight:400;
 margin-top:.5rem;max-width:12.4rem}
dl.facts{display:flex;flex-wrap:wrap;gap:.8rem 2.2rem;margin:1.2rem 0 0;padding:.9rem 0 0;
 border-top:1px solid var(--rule)}
dl.facts div{display:flex;flex-direction:column-reverse}
dl.facts dt{font-size:.8rem;color:var(--muted)}
dl.facts dd{margin:0;font-size:1.25rem;font-variant-numeric:lining-nums tabular-nums}
.verdict{font-weight:600}
ul.checks{list-style:none;padding:0}
ul.checks li{padding-left:1.6rem;position:relative;margin:.35rem 0}
ul.checks li::before{position:absolute;left:.2rem;font-weight:700;font-family:system-ui,sans-serif}
ul.checks .good::before{content:"\\2713";color:var(--green)}
ul.checks .care::before{content:"!";left:.45rem;color:var(--vermillion)}
figure{margin:1rem 0 1.6rem;counter-increment:figure;break-inside:avoid}
figure svg{display:block;width:100%;height:auto;max-width:34rem}
figure svg text{
 font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif!important}
figcaption,.caption{font-size:.85rem;line-height:1.45;color:var(--muted);max-width:38rem;text-align:left}
figcaption{margin-top:.4rem}
figcaption::before{content:"Figure " counter(figure) ". ";font-weight:600;color:var(--ink)}
.table{margin:1rem 0 1.6rem;counter-increment:table}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;line-height:1.35;
 font-variant-numeric:lining-nums tabular-nums; border-bottom:1px solid var(--muted)}
.caption{margin:0 0 .5rem}
.caption::before{content:"Table " counter(table) ". ";font-weight:600;color:var(--ink)}
th,td{padding:.28rem .8rem .28rem 0;text-align:left;vertical-align:top;overflow-wrap:break-word;
 max-width:24rem}
thead th{border:solid var(--muted);border-width:1px 0;font-weight:600;vertical-align:bottom}
tbody tr+tr td{border-top:1px solid var(--rule)}
.n{text-align:right;white-space:nowrap}
pre{font-size:.78rem;line-height:1.45;background:var(--tint);padding:.8rem 1rem;overflow-x:auto;
 margin:.7rem 0}
summary{cursor:pointer;font-size:.9rem}
@media (max-width:40rem){h1{font-size:1.5rem}.score{font-size:3.6rem}.score+.score{font-size:2rem}
 main{padding-top:1.4rem}}
@media print{body{font-size:10pt}main{max-width:none;padding:0}h2{break-after:avoid}tr{break-inside:avoid}
 details::details-content{content-visibility:visible;height:auto}pre{white-space:pre-wrap}}
"""
)


def page(title: str, sections: Sequence[tuple[str, str]], *, kicker: str) -> str:
    """One HTML document; sections are (heading, HTML), a heading "" makes none."""
    body = "".join(
        f"<section>{tag('h2', heading) if heading else ''}{inner}</section>" for heading, inner in sections
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        # The page itself forbids scripts and every request, whatever a label may contain.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"{tag('title', title)}<style>{CSS}</style></head><body><main>"
        f"{tag('p', kicker, css='kicker')}{tag('h1', title)}{body}</main></body></html>"
    )


def figure_tag(figure: Figure, *, name: str, caption: str) -> str:
    """The figure as inline SVG in the page's colours; name must be unique on the page."""
    # A small figure is shown small: its words are as large as those of the others.
    width = min(34.0, 34 / plots.WIDTH * figure.get_figwidth())
    picture = plots.svg(figure, name=name).replace(
        "<svg", f'<svg role="img" aria-label="{html.escape(caption)}" style="max-width:{width:.3g}rem"', 1
    )
    return f'<figure id="{html.escape(name)}">{picture}{tag("figcaption", caption)}</figure>'


def table_tag(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str) -> str:
    """A table that scrolls sideways on a narrow screen; columns of numbers are set flush right."""
    cells = [[_cell_text(cell) for cell in row] for row in rows]
    number = re.compile(r"[-+]?\d[\d.,e+-]*%?( \u00b1 .*| s| min| h)?|undefined|")
    right = [all(number.fullmatch(row[i]) for row in cells) for i in range(len(head))]
    marks = ['class="n"' if is_right else "" for is_right in right]

    def line(name: str, row: Sequence[str]) -> str:
        inner = (f"<{name} {mark}>{html.escape(c)}</{name}>" for mark, c in zip(marks, row, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    body = "".join(line("td", row) for row in cells)
    table = f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"
    return f'<div class="table">{tag("p", caption, css="caption")}<div class="scroll">{table}</div></div>'


def paragraph_tag(text: str, *, css: str = "") -> str:
    """A paragraph of plain text."""
    return tag("p", text, css=css)


def score_tag(score: float | None, text: str) -> str:
    """A score in large figures with text under it; the first of several is the largest."""
    return f'<div class="score">{percent(score)}{tag("small", text)}</div>'


def facts_tag(facts: Mapping[str, str]) -> str:
    """A row of numbers with their names under them."""
    items = (f"<div>{tag('dt', name)}{tag('dd', value)}</div>" for name, value in facts.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def pair_tag(*columns: str) -> str:
    """HTML side by side on a wide screen, one under the other on a phone."""
    return f'<div class="pair">{"".join(f"<div>{column}</div>" for column in columns)}</div>'


def percent(value: float | None, *, why: str = "") -> str:
    """A fraction as "58.3%"; None is "undefined", followed by why."""
    if value is None:
        return f"undefined ({why})" if why else "undefined"
    return f"{100 * value:.1f}%"


def duration(seconds: float | None) -> str:
    """Seconds as "7.2 s", "3.4 min" or "2.1 h"."""
    if seconds is None:
        return "undefined"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def some(names: Sequence[str], *, num_shown: int = 6) -> str:
    """The first names with commas between, and how many more there are."""
    more = len(names) - num_shown
    return ", ".join(names[:num_shown]) + (f" and {more} more" if more > 0 else "")


def tag(name: str, text: str, *, css: str = "") -> str:
    """An element of plain text, of one CSS class."""
    return f"<{name}{f' class={css!r}' if css else ''}>{html.escape(text)}</{name}>"


def _cell_text(cell: Cell) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
