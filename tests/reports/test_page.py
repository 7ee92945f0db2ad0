"""Pages are drawn from blocks and read back as text; their tables are read back as files."""

import csv
import io
import json
import tomllib
from html.parser import HTMLParser
from pathlib import Path

from tests import ROOT
from w2v2.reports.blocks import (
    Block,
    Check,
    Checks,
    Details,
    Facts,
    Link,
    MeanCell,
    Paragraph,
    Picture,
    Quote,
    Score,
    ScoreCell,
    Scores,
    Section,
    Side,
    Sound,
    Table,
    count,
    percent,
    score,
    tables_of,
    words,
)
from w2v2.reports.drawing import TEMPLATES, page_html
from w2v2.reports.page import write_page
from w2v2.reports.plots import scores as plots
from w2v2.reports.table_files import csv_text, latex_text

HOSTILE = """</style></title><script>alert('1')</script>" onload="x" {{ 7 * 7 }} {% include "style.css" %}"""


def drawn(*blocks: Block) -> str:
    return page_html("title", [Section("", blocks)], kicker="")


class Words(HTMLParser):
    """The tags, attributes and words of a page's body."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.words += data


def test_no_word_is_markup_whatever_block_it_is_in() -> None:
    table = Table(
        "t", [words(HOSTILE), score("s")], [[HOSTILE, 1.0], [Sound(HOSTILE, HOSTILE), HOSTILE]], HOSTILE
    )
    blocks = [
        Paragraph(HOSTILE, HOSTILE),
        Scores([Score(HOSTILE, HOSTILE)]),
        Facts({HOSTILE: HOSTILE}),
        Checks([Check(is_good=True, text=HOSTILE)]),
        Quote(HOSTILE),
        Quote(HOSTILE, is_code=True),
        Details(HOSTILE, [Paragraph(HOSTILE)]),
        Side([[Paragraph(HOSTILE)], [table]]),
        Picture(plots.confusion([[1]], [HOSTILE]), "figure", HOSTILE),
    ]
    assert {type(block) for block in [*blocks, table]} == set(Block.__subclasses__())
    page = Words(page_html(HOSTILE, [Section(HOSTILE, blocks)], kicker=HOSTILE))
    assert "script" not in page.tags and "onload" not in page.attributes and "style" in page.tags
    assert page.words.count("{{ 7 * 7 }}") == page.words.count("<script>alert('1')</script>") >= 17


def test_a_section_without_blocks_is_left_out() -> None:
    page = page_html("t", [Section("empty", []), Section("full", [Paragraph("x")])], kicker="")
    assert "<h2>full</h2>" in page and "empty" not in page


def test_numbers_are_set_right_by_their_type_not_by_how_they_look() -> None:
    columns = [words("a"), score("b"), percent("c")]
    page = drawn(
        Table("t", columns, [["2", 1.23456, 0.5], ["3.4%", None, ScoreCell(0.5, [0.25, 0.75])]], "c")
    )
    assert '<td class="n">1.235</td><td class="n">50.0%</td>' in page
    assert "<td>2</td>" in page and "<td>3.4%</td>" in page
    assert '<td class="n">undefined</td><td class="n">50.0% (25.0% to 75.0%)</td>' in page


def test_wide_tables_say_that_they_scroll() -> None:
    narrow, wide = (drawn(Table("t", [count(str(i)) for i in range(width)], [], "c")) for width in (3, 12))
    assert "Scroll the table sideways to see all of its 12 columns." in wide
    assert '<p class="hint"' in wide and '<p class="hint"' not in narrow


def test_a_figure_has_its_caption_as_words_and_for_screen_readers() -> None:
    page = drawn(Picture(plots.confusion([[1]], ["a"]), "one", '"x" & <y>'))
    caption = "&#34;x&#34; &amp; &lt;y&gt;"
    assert f'<figure id="one">\n<div role="img" aria-label="{caption}"' in page
    assert f"<figcaption>{caption}</figcaption>" in page


def test_same_counts_give_the_same_figure() -> None:
    figures = [plots.confusion([[5, 2], [0, 1]], ["a", "b"]) for _ in range(2)]
    pages = [drawn(Picture(figure, "confusion", "")) for figure in figures]
    assert pages[0] == pages[1]


TABLE = Table(
    "scores",
    [words("class_name"), percent("recall"), percent("UAR"), count("clips")],
    [
        ["50 % & more", ScoreCell(1 / 3, (0.25, 0.5)), MeanCell(0.5, 0.125), 3],
        ["b", None, MeanCell(None, None), ""],
    ],
    "50% of\nall",
)


def test_csv_has_every_digit_and_an_interval_in_columns_of_its_own() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(TABLE))))
    assert list(rows[0]) == ["class_name", "recall", "recall low", "recall high", "UAR", "UAR std", "clips"]
    assert float(rows[0]["recall"]) == 1 / 3 and float(rows[0]["recall high"]) == 0.5
    assert rows[0]["UAR std"] == "0.125" and rows[0]["class_name"] == "50 % & more"
    assert list(rows[1].values()) == ["b", "", "", "", "", "", ""]


def test_a_link_and_a_sound_are_their_words_in_the_csv() -> None:
    table = Table(
        "runs", [words("run"), words("clip")], [[Link("one", "one/report.html"), Sound("gs://b/a.wav")]], ""
    )
    assert csv_text(table).splitlines() == ["run,clip", "one,gs://b/a.wav"]


def test_latex_is_what_the_page_shows_with_its_special_characters_escaped() -> None:
    lines = latex_text(TABLE).splitlines()
    assert lines[:3] == ["% 50% of all", r"\begin{tabular}{lrrr}", r"\toprule"]
    assert lines[3] == r"class\_name & recall & UAR & clips \\"
    assert lines[5] == r"50 \% \& more & 33.3\% (25.0\% to 50.0\%) & 50.0\% $\pm$ 12.5 & 3 \\"
    assert lines[-1] == r"\end{tabular}"


def test_every_table_of_a_page_is_a_file_that_its_caption_links_to(tmp_path: Path) -> None:
    inner = Table("inner", [words("a")], [["x"]], "")
    kept_back = Table("kept_back", [words("a")], [["x"]], "", is_exported=False)
    blocks = [Side([[TABLE], [Details("more", [inner])]]), kept_back]
    assert [table.name for table in tables_of(blocks)] == ["scores", "inner", "kept_back"]
    uri = write_page(str(tmp_path), "t", [Section("", blocks)], kicker="", figures={})
    page = Path(uri).read_text()
    for name in ("scores", "inner"):
        assert f'<a href="tables/{name}.csv">CSV</a> <a href="tables/{name}.tex">LaTeX</a>' in page
        assert (tmp_path / "tables" / f"{name}.csv").exists() and (
            tmp_path / "tables" / f"{name}.tex"
        ).exists()
    assert "kept_back" not in page and not (tmp_path / "tables" / "kept_back.csv").exists()


def test_no_home_directory_is_on_a_page_or_in_its_tables(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/ann")
    paths = [
        "/srv/people/ann/runs/a",
        "/home/bob/data.csv",
        "/Users/eve",
        "gs://b/home/x",
        "/srv/people/annette",
    ]
    sections = [
        Section("", [Quote(json.dumps(paths), is_code=True), Table("t", [words(paths[0])], [paths[1:2]], "")])
    ]
    page = Path(write_page(str(tmp_path), paths[0], sections, kicker=paths[1], figures={})).read_text()
    files = page + "".join((tmp_path / "tables" / name).read_text() for name in ("t.csv", "t.tex"))
    assert "/srv/people/ann/" not in files and "/home/bob" not in files and "/Users/eve" not in files
    assert all(words in files for words in ("~/runs/a", "~/data.csv", "gs://b/home/x", "/srv/people/annette"))


def test_a_wheel_has_the_templates() -> None:
    """Each is named by a pattern of pyproject.toml's package-data, by which setuptools packs what is no module."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in patterns["w2v2.reports"] for path in TEMPLATES.parent.glob(pattern)}
    inside = {path for path in TEMPLATES.rglob("*") if path.is_file()}
    assert inside and inside == packed
