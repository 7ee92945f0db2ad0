"""The content of a page as data: sections of paragraphs, tables, figures and lists, without any markup.

Each kind of block has a template of its own, `templates/blocks/<kind>.html`; `page.py` draws them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from w2v2.reports import text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Block:
    """One part of a section; `kind` names its template."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Paragraph(Block):
    """A paragraph of plain text."""

    kind: ClassVar[str] = "paragraph"
    text: str
    style: str = ""
    """A CSS class."""


@dataclass(frozen=True)
class Score:
    """A score in large figures, with its explanation below."""

    value: str
    text: str


@dataclass(frozen=True)
class Scores(Block):
    """Scores next to each other, the first the largest."""

    kind: ClassVar[str] = "scores"
    scores: Sequence[Score]


@dataclass(frozen=True)
class Facts(Block):
    """A row of numbers with their names under them."""

    kind: ClassVar[str] = "facts"
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Check:
    """One reason to trust a score (good), or to take care."""

    is_good: bool
    text: str


@dataclass(frozen=True)
class Checks(Block):
    """Checks as a list with their marks."""

    kind: ClassVar[str] = "checks"
    checks: Sequence[Check]


@dataclass(frozen=True)
class Quote(Block):
    """Text to copy whole: a sentence, a command."""

    kind: ClassVar[str] = "quote"
    text: str
    is_code: bool = False


@dataclass(frozen=True)
class Details(Block):
    """Blocks that are shown when their summary is clicked."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Side(Block):
    """Columns of blocks: next to each other on a wide screen, one under the other on a phone."""

    kind: ClassVar[str] = "side"
    columns: Sequence[Sequence[Block]]


@dataclass(frozen=True)
class Picture(Block):
    """A figure with its caption; name must be unique on the page and is the name of its file in plots/."""

    kind: ClassVar[str] = "picture"
    figure: "Figure"
    name: str
    caption: str


Show = Callable[[Any], str]
"""How the values of a column are written."""


@dataclass(frozen=True)
class ScoreCell:
    """A score with its interval, one cell of a table."""

    value: float | None
    interval: Sequence[float] | None
    why: str = ""
    """Why there is no interval."""

    def text(self, show: Show) -> str:
        """The score, and in parentheses its interval, or that it is undefined and why."""
        if self.interval:
            return f"{show(self.value)} ({text.interval_text(self.interval, show)})"
        return show(self.value) + (f" (undefined, {self.why})" if self.why and self.value is not None else "")

    def raw(self) -> dict[str, str | float | None]:
        """Its value, and its bounds under the suffixes " low" and " high" of the column's name in the CSV."""
        low, high = self.interval or (None, None)
        return {"": self.value, " low": low, " high": high}


@dataclass(frozen=True)
class MeanCell:
    """A mean of fractions with its standard deviation, one cell of a table."""

    mean: float | None
    std: float | None

    def text(self, show: Show) -> str:
        """The mean, and the standard deviation if it is defined."""
        return show(self.mean) + ("" if self.std is None else f" \u00b1 {100 * self.std:.1f}")

    def raw(self) -> dict[str, str | float | None]:
        """Its mean, and under the suffix " std" of the column's name in the CSV its standard deviation."""
        return {"": self.mean, " std": self.std}


@dataclass(frozen=True)
class Sound:
    """A recording, one cell of a table: its uri, and the source that a browser can play, if there is one."""

    uri: str
    source: str = ""
    """Relative to the page; empty where the page offers no player."""

    def text(self, show: Show) -> str:
        """The uri of the recording."""
        return self.uri

    def raw(self) -> dict[str, str | float | None]:
        """Its uri, in one column of the CSV."""
        return {"": self.uri}


@dataclass(frozen=True)
class Link:
    """A link to another page, one cell of a table."""

    words: str
    target: str
    """Relative to the page, percent-encoded."""

    def text(self, show: Show) -> str:
        """Its words."""
        return self.words

    def raw(self) -> dict[str, str | float | None]:
        """Its words, in one column of the CSV."""
        return {"": self.words}


Cell = ScoreCell | MeanCell | Sound | Link | str | int | float | None
"""A cell: a string is shown unchanged, other values as the column formats them."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, how its values are written, and whether they are numbers."""

    name: str
    show: Show = text.setting_text
    is_number: bool = False

    def text_of(self, cell: Cell) -> str:
        """The cell as words."""
        match cell:
            case str():
                return cell
            case ScoreCell() | MeanCell() | Sound() | Link():
                return cell.text(self.show)
        return self.show(cell)


def words(name: str) -> Column:
    """A column of text."""
    return Column(name)


def count(name: str) -> Column:
    """A column of whole numbers."""
    return Column(name, is_number=True)


def percent(name: str) -> Column:
    """A column of fractions, written in percent."""
    return Column(name, text.percent_text, is_number=True)


def score(name: str) -> Column:
    """A column of scores with three decimals."""
    return Column(name, text.score_text, is_number=True)


def number(name: str) -> Column:
    """A column of numbers with four digits."""
    return Column(name, lambda value: "undefined" if value is None else f"{value:.4g}", is_number=True)


def seconds(name: str) -> Column:
    """A column of durations in seconds."""
    return Column(name, text.duration_text, is_number=True)


@dataclass(frozen=True)
class Table(Block):
    """A table of raw values, which each column formats; name is the name of its files in tables/."""

    kind: ClassVar[str] = "table"
    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str
    is_exported: bool = field(default=True, kw_only=True)
    """Whether the page offers it as CSV and LaTeX."""

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), (self.name, row)


@dataclass(frozen=True)
class Section:
    """A heading ("" for none) and its blocks; a section without blocks is left out of the page."""

    heading: str
    blocks: Sequence[Block]


def tables_of(blocks: Sequence[Block]) -> list[Table]:
    """All tables among the blocks and those inside of them, in order."""
    tables: list[Table] = []
    for block in blocks:
        match block:
            case Table():
                tables.append(block)
            case Side(columns=columns):
                tables += [table for column in columns for table in tables_of(column)]
            case Details(blocks=inner):
                tables += tables_of(inner)
    return tables
