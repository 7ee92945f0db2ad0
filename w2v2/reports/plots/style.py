"""The style of all figures, and how they are saved; names from data are never markup.

The colours of Okabe and Ito can be distinguished by colour-blind readers; a page swaps them for its theme.
"""

import io
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER, CELL = "#1c2024", "#667078", "#d9dcdf", "#fdfdfc", "#00508a"
BLUE, VERMILLION, GREEN = "#0072b2", "#d55e00", "#009e73"
PURPLE, SKY, ORANGE = "#cc79a7", "#56b4e9", "#e69f00"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE)
COLOURS = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "paper",
    CELL: "cell",
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
    SKY: "sky",
    ORANGE: "orange",
}
WIDTH = 4.7
MAX_NAMES = 60
BAND: dict[str, Any] = {"color": BLUE, "alpha": 0.12, "linewidth": 0}
LEGEND: dict[str, Any] = {
    "loc": "lower right",
    "bbox_to_anchor": (1, 1),
    "borderaxespad": 0.2,
    "handletextpad": 0.5,
    "columnspacing": 1.0,
}


def style() -> AbstractContextManager[None]:
    """Settings under which a Figure must be both drawn and saved; `$` in a name stays a dollar sign."""
    # matplotlib makes tick labels only when it draws, so the settings matter at saving too.
    return matplotlib.rc_context(
        {
            "font.size": 9,
            "text.color": INK,
            "text.parse_math": False,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.unicode_minus": False,
            "axes.axisbelow": True,
            "grid.color": RULE,
            "grid.linewidth": 0.6,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
            "lines.linewidth": 1.3,
            "figure.constrained_layout.use": True,
            "svg.fonttype": "none",
        }
    )


def svg(figure: Figure, *, name: str) -> str:
    """An <svg> element without metadata, ids unique to name, colours as CSS variables (--ink, --blue)."""
    buffer = io.StringIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": name}):
        _lay_out(figure)
        none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=none)
    text = buffer.getvalue()
    text = re.sub(
        r"<style.*?</style>|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL
    )
    for colour, variable in COLOURS.items():
        # Only inside style attributes: a clip that is called '#1c2024' keeps its name.
        text = re.sub(rf"((?:fill|stroke): ){colour}", rf"\1var(--{variable})", text)
    return text


def png(figure: Figure) -> bytes:
    """The figure as PNG on white, 150 dots per inch."""
    buffer = io.BytesIO()
    with style():
        _lay_out(figure)
        figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def _lay_out(figure: Figure) -> None:
    """Place the axes once: each savefig would lay the figure out anew, and draw it a second time for that."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel; sizes in inches."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def with_names(axes: Axes, names: Sequence[str]) -> None:
    """Write names on the y axis, at 0, 1, 2, ..."""
    axes.set_yticks(range(len(names)), labels=names)
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def is_defined(value: float | None) -> bool:
    """Whether value is neither None nor NaN."""
    return value is not None and not math.isnan(value)


def percent_values(values: Sequence[float | None]) -> list[float]:
    """The fractions that are defined, in percent."""
    return [100 * value for value in values if value is not None and not math.isnan(value)]


def from_zero(axes: Axes) -> tuple[float, float]:
    """Limits of the vertical axis from zero (or the lowest value below it) to a little above the highest value drawn."""
    low, high = axes.dataLim.intervaly
    bottom = min(0.0, float(low))
    return bottom, float(high) + 0.06 * (float(high) - bottom)
