"""Plots of predictions over the time of long recordings."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from w2v2.reports.plots.style import CYCLE, WIDTH, style
from w2v2.reports.text import shortened

MAX_LINES = len(CYCLE)
MAX_CHARACTERS = 100
"""The most characters of a title, which has the width of the figure."""


def timeline(
    recordings: Mapping[str, Sequence[tuple[float, float, Sequence[float]]]],
    names: Sequence[str],
    *,
    ylabel: str,
    unit_interval: bool,
) -> Figure:
    """A panel for each recording: the outputs of its windows (start_s, end_s, values) over time.

    With more outputs than colours, only outputs that are the highest somewhere are drawn. unit_interval says that values
    are probabilities.
    """
    drawn = _drawn(recordings, len(names))
    with style():
        figure = Figure(figsize=(1.6 * WIDTH, 0.5 + 1.15 * len(recordings)))
        panels = figure.subplots(len(recordings), 1, squeeze=False)[:, 0]
        for axes, (recording, windows) in zip(panels, recordings.items(), strict=True):
            _panel(axes, windows, [(place, names[place]) for place in drawn])
            axes.set_title(shortened(recording, num_characters=MAX_CHARACTERS), loc="left", fontsize=9)
            axes.set(ylabel=ylabel, xlim=(windows[0][0], windows[-1][1]))
            if unit_interval:
                axes.set_ylim(0, 1)
        panels[-1].set_xlabel("time in the file (s)")
        panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure


def _panel(
    axes: Axes, windows: Sequence[tuple[float, float, Sequence[float]]], outputs: Sequence[tuple[int, str]]
) -> None:
    middles = [(start + end) / 2 for start, end, _ in windows]
    for colour, (place, name) in zip(CYCLE, outputs, strict=False):
        values = [values[place] for _, _, values in windows]
        axes.plot(
            middles,
            values,
            color=colour,
            label=shortened(name, num_characters=20),
            marker="o",
            markersize=2.5,
        )


def _drawn(
    recordings: Mapping[str, Sequence[tuple[float, float, Sequence[float]]]], num_outputs: int
) -> list[int]:
    highest = [
        max(values[place] for windows in recordings.values() for _, _, values in windows)
        for place in range(num_outputs)
    ]
    return sorted(sorted(range(num_outputs), key=lambda place: -highest[place])[:MAX_LINES])
