"""The figure of a learning curve: the score by the number of training speakers."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from w2v2.json_types import JsonObject
from w2v2.reports.plots.style import (
    BLUE,
    LEGEND,
    MUTED,
    VERMILLION,
    WIDTH,
    is_defined,
    one_panel,
    percent_values,
    style,
)
from w2v2.reports.text import LABELS


def more_speakers(curve: JsonObject) -> Figure:
    """The points with their intervals, the fitted curve up to twice the speakers, and the score expected there."""
    points = [point for point in curve["points"] if is_defined(point["value"])]
    with style():
        figure, axes = one_panel(WIDTH, 2.5)
        _draw(axes, points, color=BLUE, label="trained")
        if not curve["undefined"]:
            sizes, scores = zip(*curve["curve"], strict=True)
            axes.plot(
                sizes, percent_values(scores), color=MUTED, linestyle="--", linewidth=0.9, label="fitted"
            )
            _draw(axes, [curve["doubled"]], color=VERMILLION, label="twice the speakers")
        axes.set(xlabel="training speakers", ylabel=f"{LABELS[curve['metric']]} (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.15)
        axes.grid(axis="y")
        axes.legend(**LEGEND)
        return figure


def _draw(axes: Axes, points: list[JsonObject], *, color: str, label: str) -> None:
    axes.scatter(
        [point["num_speakers"] for point in points],
        [100 * point["value"] for point in points],
        s=30,
        color=color,
        zorder=3,
        label=label,
    )
    for point in points:
        if point["interval"]:
            low, high = (100 * end for end in point["interval"])
            axes.vlines(point["num_speakers"], low, high, color=color, alpha=0.45, linewidth=2.5)
