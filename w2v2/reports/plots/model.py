"""Plots of one model: learning curves, ROC curves and AUC by label, predicted numbers against targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from w2v2.json_types import JsonObject
from w2v2.reports.plots.style import (
    BLUE,
    CYCLE,
    INK,
    LEGEND,
    MAX_NAMES,
    MUTED,
    RULE,
    VERMILLION,
    WIDTH,
    from_zero,
    is_defined,
    one_panel,
    style,
    with_names,
)
from w2v2.reports.text import shortened

MAX_POINTS = 2000
_DASHED = (0, (4, 3))


def learning_curves(curves: pa.Table, *, loss: str, best_epoch: int | None) -> Figure:
    """Loss of training and validation clips, training UAR if measured, and learning rate, by epoch.

    best_epoch, whose weights were kept, is marked unless it is 0 or None.
    """
    rows = sorted(curves.to_pylist(), key=lambda row: row["epoch"])
    has_uar = any(is_defined(row["train_uar"]) for row in rows)
    with style():
        figure = Figure(figsize=(WIDTH, 4.4 if has_uar else 3.6))
        panels = figure.subplots(
            3 if has_uar else 2, 1, sharex=True, height_ratios=[2.2, 1, 1][: 2 + has_uar]
        )
        _line(panels[0], rows, "train_loss", color=BLUE, label="train")
        _line(panels[0], rows, "val_loss", color=VERMILLION, label="validation", marker="D", markersize=3)
        panels[0].set(ylabel=loss, ylim=from_zero(panels[0]))
        if best_epoch:
            panels[0].axvline(best_epoch, color=MUTED, linewidth=0.9, linestyle=_DASHED, label="weights kept")
        panels[0].legend(**LEGEND, ncols=3)
        if has_uar:
            _line(panels[1], rows, "train_uar", scale=100, color=BLUE)
            panels[1].set(ylabel="training\nUAR (%)", ylim=(0, 100))
        _line(panels[-1], rows, "learning_rate", color=MUTED)
        panels[-1].set(ylabel="learning\nrate", ylim=(0, None), xlabel="epoch")
        panels[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        for axes in panels:
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.align_ylabels()
        return figure


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, *, scale: float = 1, **look: Any) -> None:
    measured = [row for row in rows if is_defined(row[name])]
    if measured:
        full: dict[str, Any] = {"marker": "o", "markersize": 3.5} | look
        axes.plot([row["epoch"] for row in measured], [scale * row[name] for row in measured], **full)


def roc(
    curves: Mapping[str, tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]],
) -> Figure:
    """ROC curves (false, true positive rates) of each label; the first six are named."""
    with style():
        figure, axes = one_panel(0.8 * WIDTH, 0.8 * WIDTH)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.9, linestyle=_DASHED, label="chance")
        for i, (name, rates) in enumerate(curves.items()):
            false, true = (100 * rate for rate in rates)
            is_named = i < len(CYCLE)
            look: dict[str, Any] = (
                {"color": CYCLE[i], "label": shortened(name)}
                if is_named
                else {"color": RULE, "linewidth": 0.8, "zorder": 1}
            )
            axes.plot(false, true, clip_on=False, **look)
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        axes.set(xlabel="false positive rate (%)", ylabel="true positive rate (%)")
        axes.grid()
        axes.legend(loc="lower right", labelspacing=0.3)
        return figure


def label_scores(pooled: JsonObject) -> Figure:
    """AUC of each label with its 95 % interval, best on top; up to 60 labels are named."""
    rows = sorted((row["auc"], name) for name, row in pooled["labels"].items() if row["auc"] is not None)
    with style():
        figure, axes = one_panel(WIDTH, min(9.0, 0.9 + 0.26 * max(len(rows), 3)))
        axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=_DASHED)
        for place, (auc, name) in enumerate(rows):
            interval = pooled["intervals"]["labels"][name]["auc"]
            if interval is not None:
                axes.plot(
                    interval, [place, place], color=BLUE, linewidth=4, alpha=0.35, solid_capstyle="butt"
                )
            axes.scatter([auc], [place], s=26, color=BLUE, zorder=3, clip_on=False)
        with_names(axes, [shortened(name) for _, name in rows] if len(rows) <= MAX_NAMES else [])
        axes.set(xlim=(0, 1), ylim=(-0.7, max(len(rows), 1) - 0.3), xlabel="AUC")
        axes.spines["left"].set_visible(False)
        return figure


def scatter(
    target: Float[np.ndarray, " clips"], predicted: Float[np.ndarray, " clips"], *, name: str
) -> Figure:
    """Predicted against target, one dot per clip that has a target, with the line of equality."""
    shown = np.flatnonzero(~np.isnan(target))
    shown = shown[spread_out(len(shown))]
    low, high = _limits(target[shown], predicted[shown])
    with style():
        figure, axes = one_panel(0.72 * WIDTH, 0.72 * WIDTH)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9, linestyle=_DASHED)
        axes.scatter(
            target[shown], predicted[shown], s=12, color=BLUE, alpha=_alpha(len(shown)), linewidths=0
        )
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set(xlabel=f"target {shortened(name)}", ylabel=f"predicted {shortened(name)}")
        axes.grid()
        return figure


def plane(
    target: Float[np.ndarray, "clips 2"],
    predicted: Float[np.ndarray, "clips 2"],
    names: Sequence[str],
    *,
    midpoints: Sequence[float] | None,
) -> Figure:
    """A plane of two targets: each clip at its targets (open) and at its predictions (full).

    A thin line connects the two if there are at most 150 clips; the quadrants are named if midpoints are given.
    """
    shown = np.flatnonzero(~np.isnan(target).any(1))
    shown = shown[spread_out(len(shown))]
    t, p = target[shown], predicted[shown]
    with style():
        figure, axes = one_panel(WIDTH, WIDTH)
        if len(shown) <= 150:
            axes.plot([t[:, 0], p[:, 0]], [t[:, 1], p[:, 1]], color=RULE, linewidth=0.6, zorder=1)
        alpha = _alpha(len(shown))
        axes.scatter(
            t[:, 0],
            t[:, 1],
            s=14,
            facecolors="none",
            edgecolors=MUTED,
            linewidths=0.8,
            alpha=alpha,
            label="target",
        )
        axes.scatter(p[:, 0], p[:, 1], s=14, color=BLUE, alpha=alpha, linewidths=0, label="predicted")
        axes.set(xlim=_limits(t[:, 0], p[:, 0]), ylim=_limits(t[:, 1], p[:, 1]))
        axes.set(xlabel=shortened(names[0]), ylabel=shortened(names[1]))
        if midpoints is not None:
            _quadrants(axes, midpoints)
        axes.legend(**LEGEND, ncols=2)
        return figure


def spread_out(num_points: int) -> np.ndarray:
    """Indices of at most MAX_POINTS of num_points points, evenly spaced; shape (points,)."""
    return np.unique(np.linspace(0, num_points - 1, min(num_points, MAX_POINTS)).astype(int))


def _alpha(num_points: int) -> float:
    return 0.75 if num_points <= 300 else 0.35


def _limits(*values: Float[np.ndarray, " clips"]) -> tuple[float, float]:
    """The range of all values and a little more; (0, 1) for none."""
    together = np.concatenate(values)
    if len(together) == 0:
        return 0.0, 1.0
    low, high = float(together.min()), float(together.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _quadrants(axes: Axes, midpoints: Sequence[float]) -> None:
    axes.axvline(midpoints[0], color=MUTED, linewidth=0.8)
    axes.axhline(midpoints[1], color=MUTED, linewidth=0.8)
    corners = {"Q1": (0.98, 0.98), "Q2": (0.02, 0.98), "Q3": (0.02, 0.02), "Q4": (0.98, 0.02)}
    for name, (x, y) in corners.items():
        across, up = "right" if x > 0.5 else "left", "top" if y > 0.5 else "bottom"
        axes.text(x, y, name, transform=axes.transAxes, ha=across, va=up, color=INK, fontweight="bold")
