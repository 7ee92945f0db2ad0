"""Figures of the scores of one trial or model: intervals, folds, speakers, classes."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from w2v2.json_types import JsonObject
from w2v2.reports.plots.style import (
    BAND,
    BLUE,
    CELL,
    INK,
    LEGEND,
    MAX_NAMES,
    MUTED,
    PAPER,
    RULE,
    VERMILLION,
    WIDTH,
    is_defined,
    one_panel,
    percent_values,
    style,
    with_names,
)
from w2v2.reports.text import LABELS, shortened

MAX_PERCENTS, MAX_COUNTS = 12, 30
_FOLD_STEP = 0.28

MAX_SPEAKERS = 500


def forest(metrics: JsonObject, *, chance: float | None) -> Figure:
    """The searched metric at a glance: the estimate with its interval, each fold and all clips of the best trial.

    Folds have intervals where they have speakers enough. Where metrics.json has no estimate: the best trial with its
    interval, each fold, and what was selected on the other folds.
    """
    metric, pooled, estimate = metrics["metric"], metrics["pooled"], metrics.get("estimate")
    if estimate is not None:
        score = estimate["metrics"][metric]
        interval = None if score["low"] is None else (score["low"], score["high"])
        first, last = (score["value"], f"{estimate['name']}, 95% interval"), (pooled[metric], "best trial")
    else:
        interval = pooled["intervals"][metric]
        first = (pooled[metric], "pooled, 95% interval")
        last = (metrics["selection"]["nested"], "selected on the other folds")
    folds = metrics["folds"][metric]
    within = folds.get("intervals") or [None] * len(folds["values"])
    # Folds with intervals are drawn below each other, in their order.
    step = _FOLD_STEP if any(within) else 0.0
    places = [1 + step * fold for fold in range(len(within))]
    end = places[-1] + 1
    with style():
        figure, axes = one_panel(WIDTH, 1.55 + 0.42 * (end - 2))
        _chance(axes, chance, vertical=True)
        _bar(axes, interval, 0, color=BLUE, linewidth=5)
        for between, place in zip(within, places, strict=True):
            _bar(axes, between, place, color=MUTED, linewidth=2.5)
        _dots(axes, [first[0]], [0.0], s=34, color=BLUE)
        _dots(axes, folds["values"], places, s=16, color=MUTED)
        _dots(axes, [last[0]], [end], s=34, color=VERMILLION, marker="D")
        shown = percent_values([first[0], *folds["values"], last[0], chance])
        shown += percent_values([bound for between in (interval, *within) for bound in between or ()])
        axes.set(xlim=_limits_around(shown), ylim=(end + 0.5, -0.6), xlabel=f"{LABELS[metric]} (%)")
        names = [first[1], "each fold, best trial", last[1]]
        axes.set_yticks(
            [0, (places[0] + places[-1]) / 2, end], labels=[textwrap.fill(name, 24) for name in names]
        )
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        return figure


def _dots(axes: Axes, values: Sequence[float | None], places: Sequence[float], **look: Any) -> None:
    """The fractions that are defined, in percent, each at its place on the y axis."""
    points = [(100 * x, y) for x, y in zip(values, places, strict=True) if x is not None and is_defined(x)]
    axes.scatter([x for x, _ in points], [y for _, y in points], zorder=3, clip_on=False, **look)


def _bar(axes: Axes, interval: Sequence[float] | None, place: float, *, color: str, linewidth: float) -> None:
    """A horizontal bar over an interval of fractions; nothing where there is none."""
    if interval is not None:
        ends = percent_values(interval)
        axes.plot(ends, [place] * 2, color=color, linewidth=linewidth, alpha=0.35, solid_capstyle="butt")


def _limits_around(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis of percents around these values: on one from 0 to 100 a few points would not show."""
    if not values:
        return 0.0, 100.0
    room = max(3.0, 0.08 * (max(values) - min(values)))
    return max(0.0, min(values) - room), min(100.0, max(values) + room)


def fold_scores(
    folds: JsonObject, *, metric: str, interval: Sequence[float] | None, chance: float | None
) -> Figure:
    """One dot a fold with its interval, if any, their mean, and the pooled 95 % interval as a band.

    folds is the metric's entry in `folds` of metrics.json.
    """
    points = [(fold, 100 * value) for fold, value in enumerate(folds["values"]) if is_defined(value)]
    numbers, values = [fold for fold, _ in points], [value for _, value in points]
    with style():
        figure, axes = one_panel(WIDTH, 2.5)
        if interval is not None:
            axes.axhspan(*percent_values(interval), label="95% interval, pooled", **BAND)
        if values:
            axes.axhline(sum(values) / len(values), color=BLUE, linewidth=0.9, label="mean over folds")
        for fold, between in enumerate(folds.get("intervals") or ()):
            if between is not None:
                axes.vlines([fold], 100 * between[0], 100 * between[1], color=BLUE, linewidth=2.5, alpha=0.35)
        axes.scatter(numbers, values, s=34, color=BLUE, zorder=3, clip_on=False)
        _chance(axes, chance, vertical=False)
        axes.set(ylim=(0, 100), xlabel="held-out fold", ylabel=f"{LABELS[metric]} (%)", xticks=numbers)
        axes.grid(axis="y")
        axes.legend(*axes.get_legend_handles_labels(), ncols=3, **LEGEND)
        return figure


def speaker_scores(
    by_speaker: Mapping[str, JsonObject],
    *,
    metric: str,
    interval: Sequence[float] | None,
    chance: float | None,
) -> Figure:
    """One dot a speaker, best on top, over the pooled 95 % interval; up to 60 speakers are named.

    With more than MAX_SPEAKERS only that many are drawn, at equal distances in the order of their scores.
    """
    scores = sorted((row[metric], speaker) for speaker, row in by_speaker.items() if is_defined(row[metric]))
    if len(scores) > MAX_SPEAKERS:
        scores = [scores[i * (len(scores) - 1) // (MAX_SPEAKERS - 1)] for i in range(MAX_SPEAKERS)]
    places, values = list(range(len(scores))), percent_values([score for score, _ in scores])
    with style():
        figure, axes = one_panel(WIDTH, min(9.0, 0.9 + 0.165 * max(len(scores), 4)))
        if interval is not None:
            axes.axvspan(*percent_values(interval), **BAND)
        _chance(axes, chance, vertical=True)
        axes.hlines(places, 0, values, color=RULE, linewidth=0.6)
        colours = [VERMILLION if i == 0 else BLUE for i in places]
        axes.scatter(values, places, s=22, color=colours, zorder=3, clip_on=False)
        with_names(axes, [shortened(speaker) for _, speaker in scores] if len(scores) <= MAX_NAMES else [])
        axes.set(xlim=(0, 100), ylim=(-0.8, max(len(scores), 1) - 0.2))
        axes.set(xlabel=f"{LABELS[metric]} (%)", ylabel="speaker")
        return figure


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts, and colour and percent the fraction of the row; rows are targets, columns predictions.

    A cell without clips has no percent; percents are left out where there are more than 12 classes, counts where
    there are more than 30.
    """
    num_classes = len(classes)
    names = [shortened(name, num_characters=14) for name in classes]
    size = min(9.0, 0.42 * num_classes)
    with style():
        figure, axes = one_panel(max(size + 1.3, 3.0), max(size + 1.0, 2.4))
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                fraction = count / max(sum(line), 1)
                _cell(axes, row, column, count, fraction=fraction, num_classes=num_classes)
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


def _cell(axes: Axes, row: int, column: int, count: int, *, fraction: float, num_classes: int) -> None:
    box = Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, linewidth=0)
    # The power keeps rare confusions visible next to a diagonal that is nearly full.
    box.set(facecolor=CELL if count else RULE, alpha=0.06 + 0.94 * fraction**0.7 if count else 0.25)
    axes.add_patch(box)
    colour = PAPER if fraction > 0.5 else INK if count else MUTED
    look: dict[str, Any] = {"ha": "center", "color": colour}
    has_percent = bool(count) and num_classes <= MAX_PERCENTS
    if num_classes <= MAX_COUNTS:
        axes.text(column, row - 0.14 * has_percent, f"{count}", va="center", fontsize=8, **look)
    if has_percent:
        axes.text(column, row + 0.24, f"{100 * fraction:.0f}%", va="center", fontsize=6.5, **look)
