"""Plots of a search: trials by score, by fold, by hyperparameter, and the learning curves of the best one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from w2v2.evaluation.direction import sign
from w2v2.json_types import JsonObject
from w2v2.reports.plots.style import (
    BLUE,
    CYCLE,
    INK,
    LEGEND,
    MUTED,
    RULE,
    VERMILLION,
    WIDTH,
    is_defined,
    one_panel,
    percent_values,
    style,
    with_names,
)
from w2v2.reports.text import LABELS, setting_text, shortened

MARKERS: dict[str, dict[str, Any]] = {
    "COMPLETE": {"marker": "o", "facecolor": BLUE, "edgecolor": BLUE},
    "PRUNED": {"marker": "v", "facecolor": "none", "edgecolor": MUTED},
}


def history(trials: pa.Table, *, metric: str) -> Figure:
    """Score by trial, and the best so far; complete, pruned (mean of the folds it ran) and failed differ."""
    rows = sorted(trials.to_pylist(), key=lambda row: row["trial"])
    done = [row for row in rows if row["state"] == "COMPLETE" and is_defined(row[f"{metric}_mean"])]
    pick = max if sign(metric) > 0 else min
    best = [100 * pick(row[f"{metric}_mean"] for row in done[: i + 1]) for i in range(len(done))]
    failed = [row["trial"] for row in rows if row["state"] == "FAIL"]
    with style():
        figure, axes = one_panel(WIDTH, 2.5)
        axes.step(
            [row["trial"] for row in done], best, where="post", color=BLUE, linewidth=0.9, label="best so far"
        )
        _by_state(axes, rows, {row["trial"]: 100 * _nan(row[f"{metric}_mean"]) for row in rows})
        if failed:
            # Failed trials have no score; they are drawn on the axis.
            on_axis = axes.get_xaxis_transform()
            axes.scatter(
                failed, [0.03] * len(failed), transform=on_axis, marker="x", color=VERMILLION, label="failed"
            )
        axes.set(xlabel="trial", ylabel=f"{LABELS[metric]}, mean over folds (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.15)
        axes.grid(axis="y")
        axes.legend(*axes.get_legend_handles_labels(), ncols=4, **LEGEND)
        return figure


def fold_map(folds: pa.Table, trials: pa.Table, *, metric: str, num_folds: int) -> Figure:
    """A square for each fold that a trial ran, darker for a better score; folds that never ran stay empty."""
    rows = [row for row in folds.to_pylist() if is_defined(row[metric])]
    low = min((row[metric] for row in rows), default=0.0)
    high = max((row[metric] for row in rows), default=1.0)
    numbers = trials["trial"].to_pylist() or [0]
    with style():
        figure, axes = one_panel(WIDTH, 0.75 + 0.17 * max(num_folds, 3))
        for row in rows:
            shade = _shade(row[metric], low, high, metric)
            corner = (row["trial"] - 0.45, row["fold"] - 0.45)
            axes.add_patch(
                Rectangle(corner, 0.9, 0.9, facecolor=BLUE, alpha=0.12 + 0.83 * shade, linewidth=0)
            )
        axes.set(xlim=(min(numbers) - 0.6, max(numbers) + 0.6), ylim=(num_folds - 0.4, -0.6))
        axes.set(xlabel="trial", ylabel="fold")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return figure


def importance(importances: Mapping[str, float]) -> Figure:
    """Share of the variance of the score that each hyperparameter explains, largest on top."""
    items = sorted(importances.items(), key=lambda item: item[1])
    places, shares = list(range(len(items))), percent_values([share for _, share in items])
    with style():
        figure, axes = one_panel(WIDTH, 0.75 + 0.22 * max(len(items), 2))
        axes.hlines(places, 0, shares, color=RULE, linewidth=0.9)
        axes.scatter(shares, places, s=34, color=BLUE, zorder=3, clip_on=False)
        with_names(axes, [shortened(path, num_characters=28) for path, _ in items])
        axes.set(xlim=(0, 100), ylim=(-0.7, len(items) - 0.3), xlabel="share of explained variance (%)")
        return figure


def scatter(trials: pa.Table, space: Mapping[str, JsonObject], *, metric: str, best: int) -> Figure:
    """Score against each hyperparameter, two panels a row, on a log axis where the space is logarithmic."""
    rows = [row for row in trials.to_pylist() if is_defined(row[f"{metric}_mean"])]
    with style():
        num_rows = max(math.ceil(len(space) / 2), 1)
        figure = Figure(figsize=(WIDTH, 0.35 + 1.5 * num_rows))
        panels = figure.subplots(num_rows, 2, sharey=True, squeeze=False).ravel()
        for axes, (path, dimension) in zip(panels, space.items(), strict=False):
            _scatter_one(axes, rows, path=path, dimension=dimension, metric=metric, best=best)
        for axes in panels[len(space) :]:
            axes.set_visible(False)
        figure.supylabel(f"{LABELS[metric]}, mean over folds (%)", fontsize=8.5)
        return figure


def parallel(trials: pa.Table, space: Mapping[str, JsonObject], *, metric: str, best: int) -> Figure:
    """Each trial with a score as a line over its hyperparameters, darker for a better score; orange: the best.

    An axis runs from the lowest value of its field to the highest, on a log scale where the space is logarithmic.
    """
    names = [f"params_{path}" for path in space]
    rows = [row for row in trials.to_pylist() if is_defined(row[f"{metric}_mean"])]
    rows = [row for row in rows if all(row[name] is not None for name in names)]
    rows.sort(key=lambda row: (row["trial"] == best, sign(metric) * row[f"{metric}_mean"]))
    scores = [row[f"{metric}_mean"] for row in rows]
    low, high = min(scores, default=0.0), max(scores, default=1.0)
    with style():
        figure, axes = one_panel(2 * WIDTH, 2.8)
        for row, score in zip(rows, scores, strict=True):
            place = (score - low) / max(high - low, 1e-9)
            shade = _shade(score, low, high, metric)
            is_best = row["trial"] == best
            places = [_share(row[f"params_{path}"], field) for path, field in space.items()]
            look: dict[str, Any] = {"color": VERMILLION if is_best else BLUE, "linewidth": 1.1 + is_best}
            axes.plot([*places, place], alpha=1.0 if is_best else 0.12 + 0.7 * shade, **look)
        for place, (path, field) in enumerate(space.items()):
            _parallel_axis(axes, place, path.partition(".")[2], _ends(field))
        _parallel_axis(axes, len(space), LABELS[metric], (f"{100 * low:.1f}%", f"{100 * high:.1f}%"))
        axes.set(xlim=(-0.35, len(space) + 0.35), ylim=(-0.16, 1.3))
        axes.set_axis_off()
        return figure


def _shade(score: float, low: float, high: float, metric: str) -> float:
    """0 for the worst score, 1 for the best."""
    height = (score - low) / max(high - low, 1e-9)
    return height if sign(metric) > 0 else 1 - height


def _share(value: Any, field: JsonObject) -> float:
    """The position of a value between the lowest (0) and the highest (1) of its field."""
    if field.get("choices"):
        choices = [str(choice) for choice in field["choices"]]
        return choices.index(str(value)) / max(len(choices) - 1, 1) if str(value) in choices else 0.5
    low, high = float(field["low"]), float(field["high"])
    if field.get("log"):
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / max(high - low, 1e-12)


def _ends(field: JsonObject) -> tuple[str, str]:
    choices = field.get("choices")
    low, high = (choices[0], choices[-1]) if choices else (float(field["low"]), float(field["high"]))
    return setting_text(low), setting_text(high)


def _parallel_axis(axes: Axes, place: int, name: str, ends: tuple[str, str]) -> None:
    axes.plot([place, place], [0, 1], color=MUTED, linewidth=0.8, zorder=0)
    axes.text(place, 1.22, shortened(name, num_characters=16), ha="center", va="center", color=INK)
    for height, end in zip((-0.09, 1.09), ends, strict=True):
        text = shortened(end, num_characters=14)
        axes.text(place, height, text, ha="center", va="center", fontsize=7.5, color=MUTED)


def learning_curves(curves: pa.Table, *, trial: int) -> Figure:
    """Training loss and training UAR by epoch, one line a fold of the trial."""
    rows = sorted(
        (row for row in curves.to_pylist() if row["trial"] == trial),
        key=lambda row: (row["fold"], row["epoch"]),
    )
    with style():
        figure = Figure(figsize=(WIDTH, 2.5))
        left, right = figure.subplots(1, 2)
        for i, fold in enumerate(sorted({row["fold"] for row in rows})):
            line = [row for row in rows if row["fold"] == fold]
            look: dict[str, Any] = {"color": CYCLE[i % len(CYCLE)], "marker": ".", "markersize": 4}
            epochs = [row["epoch"] for row in line]
            left.plot(epochs, [_nan(row["train_loss"]) for row in line], label=f"fold {fold}", **look)
            right.plot(epochs, [100 * _nan(row["train_uar"]) for row in line], **look)
        has_uar = any(row["train_uar"] is not None for row in rows)
        left.set(
            xlabel="epoch",
            ylabel=f"training loss (nats per {'clip' if has_uar else 'character'})",
            ylim=(0, None),
        )
        right.set(xlabel="epoch", ylabel="training UAR (%)", ylim=(0, 100), visible=has_uar)
        for axes in (left, right):
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=6, columnspacing=1.0, handlelength=1.2
        )
        return figure


def seconds_by_trial(trials: pa.Table) -> Figure:
    """Time that the folds of each trial took: in minutes where the longest is over three, else in seconds."""
    rows = [row for row in trials.to_pylist() if is_defined(row["seconds"])]
    unit, seconds = ("min", 60) if any(row["seconds"] > 180 for row in rows) else ("s", 1)
    with style():
        figure, axes = one_panel(WIDTH, 2.0)
        _by_state(axes, rows, {row["trial"]: row["seconds"] / seconds for row in rows})
        axes.margins(y=0.15)
        axes.set(xlabel="trial", ylabel=f"time of its folds ({unit})", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        axes.legend(*axes.get_legend_handles_labels(), ncols=2, **LEGEND)
        return figure


def _by_state(axes: Axes, rows: Sequence[Mapping[str, Any]], values: Mapping[int, float]) -> None:
    for state, look in MARKERS.items():
        numbers = [row["trial"] for row in rows if row["state"] == state]
        axes.scatter(numbers, [values[number] for number in numbers], s=26, label=state.lower(), **look)


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _scatter_one(
    axes: Axes, rows: Sequence[dict], *, path: str, dimension: JsonObject, metric: str, best: int
) -> None:
    rows = [row for row in rows if row.get(f"params_{path}") is not None]
    values = [row[f"params_{path}"] for row in rows]
    if dimension.get("choices"):
        names = list(dict.fromkeys(str(value) for value in [*dimension["choices"], *values]))
        labels = [shortened(name, num_characters=12) for name in names]
        slant: dict[str, Any] = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
        is_crowded = len("".join(labels)) > 16
        axes.set_xticks(range(len(names)), labels=labels, **(slant if is_crowded else {}))
        axes.set_xlim(-0.5, len(names) - 0.5)
        values = [names.index(str(value)) for value in values]
    elif dimension.get("log"):
        _log_axis(axes, low=float(dimension["low"]), high=float(dimension["high"]))
    else:
        low, high = float(dimension["low"]), float(dimension["high"])
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    scores = {row["trial"]: 100 * row[f"{metric}_mean"] for row in rows}
    for row, value in zip(rows, values, strict=True):
        look = MARKERS.get(row["state"], MARKERS["PRUNED"])
        if row["trial"] == best:
            look = look | {"facecolor": VERMILLION, "edgecolor": VERMILLION, "zorder": 3}
        axes.scatter(value, scores[row["trial"]], s=26, **look)
    axes.margins(y=0.15)
    axes.set_xlabel(shortened(path, num_characters=30) + (" (log)" if dimension.get("log") else ""))
    axes.grid(axis="y")


def _log_axis(axes: Axes, *, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low / 1.2, high * 1.2)
    # The default labels are math markup, which is off.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 10 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
