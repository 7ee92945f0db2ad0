"""Parts of a page, read back as text."""

import pytest

from w2v2.reports import html as page
from w2v2.reports import plots


def test_same_counts_give_the_same_figure() -> None:
    figures = [plots.confusion([[5, 2], [0, 1]], ["a", "b"]) for _ in range(2)]
    pages = [page.figure_tag(figure, name="confusion", caption="") for figure in figures]
    assert pages[0] == pages[1]


def test_words_of_a_page_are_never_markup() -> None:
    html = page.page("<t>", [("", "<p>first</p>"), ("<h>", "")], kicker="<k>")
    assert "<section><p>first</p></section><section><h2>&lt;h&gt;</h2></section>" in html
    assert "<title>&lt;t&gt;</title>" in html and "<h1>&lt;t&gt;</h1>" in html and "&lt;k&gt;" in html
    parts = page.facts_tag({"<a>": "<b>"}) + page.score_tag(0.5, "<c>") + page.paragraph_tag("<d>", css="x")
    assert parts == (
        '<dl class="facts"><div><dt>&lt;a&gt;</dt><dd>&lt;b&gt;</dd></div></dl>'
        '<div class="score">50.0%<small>&lt;c&gt;</small></div>'
        "<p class='x'>&lt;d&gt;</p>"
    )


def test_figure_has_its_caption_as_words_and_for_screen_readers() -> None:
    html = page.figure_tag(plots.confusion([[1]], ["a"]), name="one", caption='"x" & <y>')
    assert html.startswith('<figure id="one"><svg role="img" aria-label="&quot;x&quot; &amp; &lt;y&gt;"')
    assert html.endswith("<figcaption>&quot;x&quot; &amp; &lt;y&gt;</figcaption></figure>")


def test_numbers_and_lists_in_words() -> None:
    assert page.percent(0.58349) == "58.3%" and page.percent(None) == "undefined"
    assert page.percent(None, why="no clip") == "undefined (no clip)"
    assert page.some(["a", "b"], num_shown=2) == "a, b" and page.some([]) == ""
    assert page.some(["a", "b", "c"], num_shown=1) == "a and 2 more"


def test_table_sets_columns_of_numbers_right_and_escapes_cells() -> None:
    html = page.table_tag(["<a>", "b"], [["x&y", 1.23456], ["2", "3.4%"]], caption="<c>")
    assert (
        "<td >x&amp;y</td>" in html
        and '<td class="n">1.235</td>' in html
        and "&lt;a&gt;" in html
        and "&lt;c&gt;" in html
    )
    assert '<td class="n">2</td>' not in html and '<td class="n">3.4%</td>' in html


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7.25, "7.2 s"), (119.9, "119.9 s"), (204.0, "3.4 min"), (7560.0, "2.1 h"), (None, "undefined")],
)
def test_duration_takes_the_unit_that_reads_well(seconds: float | None, words: str) -> None:
    assert page.duration(seconds) == words
