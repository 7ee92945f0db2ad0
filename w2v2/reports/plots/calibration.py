"""The reliability diagram: how often a model is right against how sure it is (DeGroot and Fienberg 1983)."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from w2v2.json_types import JsonObject
from w2v2.reports.plots.style import BLUE, MUTED, VERMILLION, WIDTH, one_panel, style

LARGEST = 140
"""Area of the dot of the bin with most clips, in square points."""


def reliability(calibration: JsonObject) -> Figure:
    """Accuracy against mean confidence of each bin, a dot as large as its clips; before and after a temperature."""
    after = calibration.get("temperature")
    with style():
        figure, axes = one_panel(0.72 * WIDTH, 0.72 * WIDTH)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        _bins(axes, calibration["bins"], color=VERMILLION if after else BLUE, label="as predicted")
        if after:
            _bins(axes, after["bins"], color=BLUE, label="with the temperature")
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        axes.set(xlabel="mean probability of the predicted class (%)", ylabel="accuracy (%)")
        axes.grid()
        axes.legend(loc="upper left", labelspacing=0.3, markerscale=0.7)
        return figure


def _bins(axes: Axes, bins: Sequence[JsonObject], *, color: str, label: str) -> None:
    most = max(row["num_clips"] for row in bins)
    sure, right = ([100 * row[name] for row in bins] for name in ("confidence", "accuracy"))
    sizes = [max(6.0, LARGEST * row["num_clips"] / most) for row in bins]
    axes.scatter(
        sure, right, s=sizes, color=color, alpha=0.75, linewidths=0, label=label, clip_on=False, zorder=3
    )
