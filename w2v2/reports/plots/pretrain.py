"""Plots of a pre-training: learning curves with the level of guessing, its steps, and the use of each code."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from w2v2.reports.plots.style import BLUE, CYCLE, LEGEND, MUTED, VERMILLION, WIDTH, from_zero, style

_DASHED = (0, (4, 3))
_LINE_STYLES: Mapping[str, Mapping[str, Any]] = {
    "train": {"color": BLUE, "label": "train", "marker": "o", "markersize": 3},
    "val": {"color": VERMILLION, "label": "validation", "marker": "D", "markersize": 3},
}


def learning_curves(curves: pa.Table, *, num_codes: int, alarm_perplexity: float | None) -> Figure:
    """Loss and accuracy of train and validation by epoch with the level of guessing, and perplexity with its alarm."""
    rows = sorted(curves.to_pylist(), key=lambda row: row["epoch"])
    with style():
        figure = Figure(figsize=(WIDTH, 5.2))
        panels = figure.subplots(3, 1, sharex=True)
        for axes, name, scale in zip(panels, ("loss", "accuracy", "perplexity"), (1, 100, 1), strict=True):
            for split, look in _LINE_STYLES.items():
                _line(axes, [row for row in rows if row["split"] == split], name, scale, look)
        _level(panels[0], rows[-1]["chance_loss"], "guessing")
        _level(panels[1], 100 * rows[-1]["chance_accuracy"], "")
        if alarm_perplexity is not None:
            _level(panels[2], alarm_perplexity, "")
        panels[0].legend(**LEGEND, ncols=3)
        panels[0].set(ylabel="loss\n(nats)", ylim=from_zero(panels[0]))
        panels[1].set(ylabel="accuracy\n(%)", ylim=from_zero(panels[1]))
        panels[2].set(ylabel=f"perplexity\nof {num_codes} codes", ylim=(0, num_codes), xlabel="epoch")
        for axes in panels:
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.align_ylabels()
        return figure


def step_curves(steps: pa.Table, *, alarm_norm: float) -> Figure:
    """The gradient's norm by step with its alarm, the learning rate and the Gumbel temperature."""
    rows = steps.to_pylist()
    at = [row["step"] for row in rows]
    with style():
        figure = Figure(figsize=(WIDTH, 4.2))
        panels = figure.subplots(3, 1, sharex=True, height_ratios=[2, 1, 1])
        panels[0].plot(at, [row["gradient_norm"] for row in rows], color=BLUE, linewidth=0.9)
        _level(panels[0], alarm_norm, "")
        panels[0].set(ylabel="norm of the\ngradient", yscale="log")
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # no markup
        panels[0].yaxis.set_minor_formatter(NullFormatter())
        panels[1].plot(at, [row["learning_rate"] for row in rows], color=MUTED)
        panels[1].set(ylabel="learning\nrate", ylim=(0, None))
        panels[1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        panels[2].plot(at, [row["gumbel_temperature"] for row in rows], color=MUTED)
        panels[2].set(ylabel="Gumbel\ntemperature", ylim=(0, None), xlabel="step")
        for axes in panels:
            axes.grid(axis="y")
        figure.align_ylabels()
        return figure


def code_usage(usage: pa.Table) -> Figure:
    """How often each code is used, most frequent first, a line for each book, with equal use."""
    rows = usage.to_pylist()
    with style():
        figure = Figure(figsize=(WIDTH, 2.6))
        axes = figure.subplots()
        for group in sorted({row["group"] for row in rows}):
            percents = sorted((100 * row["fraction"] for row in rows if row["group"] == group), reverse=True)
            axes.step(
                np.arange(1, len(percents) + 1),
                percents,
                color=CYCLE[group % len(CYCLE)],
                label=f"book {group + 1}",
                where="mid",
            )
            _level(axes, 100 / len(percents), "equal use" if group == 0 else "")
        axes.set(xlabel="codes, most frequent first", ylabel="masked\nframes (%)", ylim=(0, None))
        axes.grid(axis="y")
        axes.legend(**LEGEND, ncols=3)
        return figure


def _line(
    axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, scale: float, look: Mapping[str, Any]
) -> None:
    if rows:
        axes.plot([row["epoch"] for row in rows], [scale * row[name] for row in rows], **look)


def _level(axes: Axes, value: float, label: str) -> None:
    axes.axhline(value, color=MUTED, linewidth=0.9, linestyle=_DASHED, label=label or None)
