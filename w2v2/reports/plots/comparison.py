"""Figures of several runs over the same clips."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from w2v2.json_types import JsonObject
from w2v2.reports.plots.style import BLUE, WIDTH, one_panel, style, with_names
from w2v2.reports.text import shortened


def runs_with_intervals(runs: Mapping[str, JsonObject], metric: str, label: str) -> Figure:
    """One dot a run, the best on top, on its 95 % interval."""
    with style():
        figure, axes = one_panel(WIDTH, 0.9 + 0.22 * max(len(runs), 3))
        for place, run in enumerate(runs.values()):
            score = run["scores"][metric]
            if score["interval"] is not None:
                axes.plot(
                    score["interval"], [place] * 2, color=BLUE, linewidth=5, alpha=0.35, solid_capstyle="butt"
                )
            if score["value"] is not None:
                axes.scatter([score["value"]], [place], s=30, color=BLUE, zorder=3)
        with_names(axes, [shortened(name) for name in runs])
        axes.set(ylim=(len(runs) - 0.4, -0.6), xlabel=label)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        return figure
