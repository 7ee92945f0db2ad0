"""How every plot looks and is saved, and plots of the scores of one trial; names from data are never markup.

Colours are those of Okabe and Ito, told apart by colour-blind readers; a page swaps them for its theme.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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
METRICS = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1"}
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
        figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def short(name: str, *, num_characters: int = 18) -> str:
    """The name on one line, unprintable characters as '?', cut to num_characters."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(name.split()))
    return text if len(text) <= num_characters else text[: num_characters - 3] + "..."


def one(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel; sizes in inches."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def with_names(axes: Axes, names: Sequence[str]) -> None:
    """Write names on the y axis, at 0, 1, 2, ..."""
    axes.set_yticks(range(len(names)), labels=names)
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def is_known(value: float | None) -> bool:
    """Whether value is neither None nor NaN."""
    return value is not None and not math.isnan(value)


def percent(values: Sequence[float | None]) -> list[float]:
    """The fractions that are known, in percent."""
    return [100 * value for value in values if value is not None and not math.isnan(value)]


def forest(metrics: Mapping[str, Any], *, chance: float | None) -> Figure:
    """The chosen metric in one look: pooled with its interval, each fold, and selected on the other folds."""
    metric = metrics["metric"]
    interval = metrics["pooled"]["intervals"][metric]
    rows: tuple[tuple[list[float | None], dict[str, Any]], ...] = (
        ([metrics["pooled"][metric]], {"s": 34, "color": BLUE}),
        (metrics["folds"][metric]["values"], {"s": 16, "color": MUTED}),
        ([metrics["selection"]["nested"]], {"s": 34, "color": VERMILLION, "marker": "D"}),
    )
    with style():
        figure, axes = one(WIDTH, 1.55)
        _chance(axes, chance, vertical=True)
        if interval is not None:
            axes.plot(percent(interval), [0, 0], color=BLUE, linewidth=5, alpha=0.35, solid_capstyle="butt")
        for place, (values, look) in enumerate(rows):
            points = percent(values)
            axes.scatter(points, [place] * len(points), zorder=3, clip_on=False, **look)
        axes.set(xlim=(0, 100), ylim=(2.5, -0.6), xlabel=f"{METRICS[metric]} (%)")
        with_names(axes, ["pooled, 95% interval", "each fold", "selected on the other folds"])
        axes.spines["left"].set_visible(False)
        return figure


def fold_scores(
    folds: pa.Table, *, metric: str, interval: Sequence[float] | None, chance: float | None
) -> Figure:
    """One dot a fold of one trial, their mean, and the pooled 95 % interval as a band."""
    rows = [row for row in folds.to_pylist() if is_known(row[metric])]
    numbers, values = [row["fold"] for row in rows], percent([row[metric] for row in rows])
    with style():
        figure, axes = one(WIDTH, 2.5)
        if interval is not None:
            axes.axhspan(*percent(interval), label="95% interval, pooled", **BAND)
        if values:
            axes.axhline(sum(values) / len(values), color=BLUE, linewidth=0.9, label="mean over folds")
        axes.scatter(numbers, values, s=34, color=BLUE, zorder=3, clip_on=False)
        _chance(axes, chance, vertical=False)
        axes.set(ylim=(0, 100), xlabel="held-out fold", ylabel=f"{METRICS[metric]} (%)", xticks=numbers)
        axes.grid(axis="y")
        axes.legend(*axes.get_legend_handles_labels(), ncols=3, **LEGEND)
        return figure


def speaker_scores(
    by_speaker: Mapping[str, Mapping[str, Any]],
    *,
    metric: str,
    interval: Sequence[float] | None,
    chance: float | None,
) -> Figure:
    """One dot a speaker, best on top, over the pooled 95 % interval; up to 60 speakers are named."""
    scores = sorted((row[metric], speaker) for speaker, row in by_speaker.items() if is_known(row[metric]))
    places, values = list(range(len(scores))), percent([score for score, _ in scores])
    with style():
        figure, axes = one(WIDTH, min(9.0, 0.9 + 0.165 * max(len(scores), 4)))
        if interval is not None:
            axes.axvspan(*percent(interval), **BAND)
        _chance(axes, chance, vertical=True)
        axes.hlines(places, 0, values, color=RULE, linewidth=0.6)
        colours = [VERMILLION if i == 0 else BLUE for i in places]
        axes.scatter(values, places, s=22, color=colours, zorder=3, clip_on=False)
        with_names(axes, [short(speaker) for _, speaker in scores] if len(scores) <= MAX_NAMES else [])
        axes.set(xlim=(0, 100), ylim=(-0.8, max(len(scores), 1) - 0.2))
        axes.set(xlabel=f"{METRICS[metric]} (%)", ylabel="speaker")
        return figure


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts as text, colour the fraction of the row; rows are targets, columns predictions.

    A row without clips stays blank; counts are left out where there are more than 30 classes.
    """
    num_classes = len(classes)
    names = [short(name, num_characters=14) for name in classes]
    size = min(9.0, 0.42 * num_classes)
    with style():
        figure, axes = one(max(size + 1.3, 3.0), max(size + 1.0, 2.4))
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                fraction = count / max(sum(line), 1)
                _cell(axes, row, column, count, fraction=fraction, with_text=num_classes <= 30)
        axes.set(xlim=(-0.5, num_classes - 0.5), ylim=(num_classes - 0.5, -0.5), aspect="equal")
        axes.set(xlabel="predicted class", ylabel="target class")
        axes.set_xticks(range(num_classes), labels=names, rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0, labelcolor=INK)
        with_names(axes, names)
        axes.spines[:].set_visible(False)
        return figure


def _chance(axes: Axes, chance: float | None, *, vertical: bool) -> None:
    if chance is not None:
        line = axes.axvline if vertical else axes.axhline
        line(100 * chance, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), label="chance")


def _cell(axes: Axes, row: int, column: int, count: int, *, fraction: float, with_text: bool) -> None:
    box = Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, linewidth=0)
    # The power keeps rare confusions visible beside a diagonal that is nearly full.
    box.set(facecolor=CELL if count else RULE, alpha=0.06 + 0.94 * fraction**0.7 if count else 0.25)
    axes.add_patch(box)
    if with_text:
        colour = PAPER if fraction > 0.5 else INK if count else MUTED
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=colour)
