"""Tables in, matplotlib Figures out: nothing is read or written here, names from data are never markup.

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
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

INK, MUTED, RULE, PAPER, CELL = "#1c2024", "#667078", "#d9dcdf", "#fdfdfc", "#00508a"
BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
)
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
LOOKS: dict[str, dict[str, Any]] = {
    "COMPLETE": {"marker": "o", "facecolor": BLUE, "edgecolor": BLUE},
    "PRUNED": {"marker": "v", "facecolor": "none", "edgecolor": MUTED},
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
        figure, axes = _one(WIDTH, 1.55)
        _chance(axes, chance, vertical=True)
        if interval is not None:
            axes.plot(_percent(interval), [0, 0], color=BLUE, linewidth=5, alpha=0.35, solid_capstyle="butt")
        for place, (values, look) in enumerate(rows):
            points = _percent(values)
            axes.scatter(points, [place] * len(points), zorder=3, clip_on=False, **look)
        axes.set(xlim=(0, 100), ylim=(2.5, -0.6), xlabel=f"{METRICS[metric]} (%)")
        _names(axes, ["pooled, 95% interval", "each fold", "selected on the other folds"])
        axes.spines["left"].set_visible(False)
        return figure


def fold_scores(
    folds: pa.Table, *, metric: str, interval: Sequence[float] | None, chance: float | None
) -> Figure:
    """One dot a fold of one trial, their mean, and the pooled 95 % interval as a band."""
    rows = [row for row in folds.to_pylist() if _known(row[metric])]
    numbers, values = [row["fold"] for row in rows], _percent([row[metric] for row in rows])
    with style():
        figure, axes = _one(WIDTH, 2.5)
        if interval is not None:
            axes.axhspan(*_percent(interval), label="95% interval, pooled", **BAND)
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
    scores = sorted((row[metric], speaker) for speaker, row in by_speaker.items() if _known(row[metric]))
    places, values = list(range(len(scores))), _percent([score for score, _ in scores])
    with style():
        figure, axes = _one(WIDTH, min(9.0, 0.9 + 0.165 * max(len(scores), 4)))
        if interval is not None:
            axes.axvspan(*_percent(interval), **BAND)
        _chance(axes, chance, vertical=True)
        axes.hlines(places, 0, values, color=RULE, linewidth=0.6)
        colours = [VERMILLION if i == 0 else BLUE for i in places]
        axes.scatter(values, places, s=22, color=colours, zorder=3, clip_on=False)
        _names(axes, [short(speaker) for _, speaker in scores] if len(scores) <= MAX_NAMES else [])
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
        figure, axes = _one(max(size + 1.3, 3.0), max(size + 1.0, 2.4))
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                fraction = count / max(sum(line), 1)
                _cell(axes, row, column, count, fraction=fraction, with_text=num_classes <= 30)
        axes.set(xlim=(-0.5, num_classes - 0.5), ylim=(num_classes - 0.5, -0.5), aspect="equal")
        axes.set(xlabel="predicted class", ylabel="target class")
        axes.set_xticks(range(num_classes), labels=names, rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0, labelcolor=INK)
        _names(axes, names)
        axes.spines[:].set_visible(False)
        return figure


def history(trials: pa.Table, *, metric: str) -> Figure:
    """Score by trial, and the best so far; complete, pruned (mean of the folds it ran) and failed differ."""
    rows = sorted(trials.to_pylist(), key=lambda row: row["trial"])
    done = [row for row in rows if row["state"] == "COMPLETE" and _known(row[f"{metric}_mean"])]
    best = [100 * max(row[f"{metric}_mean"] for row in done[: i + 1]) for i in range(len(done))]
    failed = [row["trial"] for row in rows if row["state"] == "FAIL"]
    with style():
        figure, axes = _one(WIDTH, 2.5)
        axes.step(
            [row["trial"] for row in done], best, where="post", color=BLUE, linewidth=0.9, label="best so far"
        )
        _by_state(axes, rows, {row["trial"]: 100 * _nan(row[f"{metric}_mean"]) for row in rows})
        if failed:
            # Failed trials have no score; they stand on the axis.
            on_axis = axes.get_xaxis_transform()
            axes.scatter(
                failed, [0.03] * len(failed), transform=on_axis, marker="x", color=VERMILLION, label="failed"
            )
        axes.set(xlabel="trial", ylabel=f"{METRICS[metric]}, mean over folds (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.15)
        axes.grid(axis="y")
        axes.legend(*axes.get_legend_handles_labels(), ncols=4, **LEGEND)
        return figure


def fold_map(folds: pa.Table, trials: pa.Table, *, metric: str, num_folds: int) -> Figure:
    """A square for each fold a trial ran, darker for a higher score; what was never run stays empty."""
    rows = [row for row in folds.to_pylist() if _known(row[metric])]
    low = min((row[metric] for row in rows), default=0.0)
    high = max((row[metric] for row in rows), default=1.0)
    numbers = trials["trial"].to_pylist() or [0]
    with style():
        figure, axes = _one(WIDTH, 0.75 + 0.17 * max(num_folds, 3))
        for row in rows:
            shade = (row[metric] - low) / max(high - low, 1e-9)
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
    places, shares = list(range(len(items))), _percent([share for _, share in items])
    with style():
        figure, axes = _one(WIDTH, 0.75 + 0.22 * max(len(items), 2))
        axes.hlines(places, 0, shares, color=RULE, linewidth=0.9)
        axes.scatter(shares, places, s=34, color=BLUE, zorder=3, clip_on=False)
        _names(axes, [short(path, num_characters=28) for path, _ in items])
        axes.set(xlim=(0, 100), ylim=(-0.7, len(items) - 0.3), xlabel="share of explained variance (%)")
        return figure


def scatter(trials: pa.Table, space: Mapping[str, Mapping[str, Any]], *, metric: str, best: int) -> Figure:
    """Score against each hyperparameter, two panels a row, on a log axis where the space is logarithmic."""
    rows = [row for row in trials.to_pylist() if _known(row[f"{metric}_mean"])]
    with style():
        num_rows = max(math.ceil(len(space) / 2), 1)
        figure = Figure(figsize=(WIDTH, 0.35 + 1.5 * num_rows))
        panels = figure.subplots(num_rows, 2, sharey=True, squeeze=False).ravel()
        for axes, (path, dimension) in zip(panels, space.items(), strict=False):
            _scatter_one(axes, rows, path=path, dimension=dimension, metric=metric, best=best)
        for axes in panels[len(space) :]:
            axes.set_visible(False)
        figure.supylabel(f"{METRICS[metric]}, mean over folds (%)", fontsize=8.5)
        return figure


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
        left.set(xlabel="epoch", ylabel="training loss (nats per clip)", ylim=(0, None))
        right.set(xlabel="epoch", ylabel="training UAR (%)", ylim=(0, 100))
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
    rows = [row for row in trials.to_pylist() if _known(row["seconds"])]
    unit, seconds = ("min", 60) if any(row["seconds"] > 180 for row in rows) else ("s", 1)
    with style():
        figure, axes = _one(WIDTH, 2.0)
        _by_state(axes, rows, {row["trial"]: row["seconds"] / seconds for row in rows})
        axes.margins(y=0.15)
        axes.set(xlabel="trial", ylabel=f"time of its folds ({unit})", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        axes.legend(*axes.get_legend_handles_labels(), ncols=2, **LEGEND)
        return figure


def _one(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), labels=names)
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def _by_state(axes: Axes, rows: Sequence[Mapping[str, Any]], values: Mapping[int, float]) -> None:
    for state, look in LOOKS.items():
        numbers = [row["trial"] for row in rows if row["state"] == state]
        axes.scatter(numbers, [values[number] for number in numbers], s=26, label=state.lower(), **look)


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _percent(values: Sequence[float | None]) -> list[float]:
    return [100 * value for value in values if value is not None and not math.isnan(value)]


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


def _scatter_one(
    axes: Axes, rows: Sequence[dict], *, path: str, dimension: Mapping[str, Any], metric: str, best: int
) -> None:
    rows = [row for row in rows if row.get(f"params_{path}") is not None]
    values = [row[f"params_{path}"] for row in rows]
    if dimension.get("choices"):
        names = list(dict.fromkeys(str(value) for value in [*dimension["choices"], *values]))
        labels = [short(name, num_characters=12) for name in names]
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
        look = LOOKS.get(row["state"], LOOKS["PRUNED"])
        if row["trial"] == best:
            look = look | {"facecolor": VERMILLION, "edgecolor": VERMILLION, "zorder": 3}
        axes.scatter(value, scores[row["trial"]], s=26, **look)
    axes.margins(y=0.15)
    axes.set_xlabel(short(path, num_characters=30) + (" (log)" if dimension.get("log") else ""))
    axes.grid(axis="y")


def _log_axis(axes: Axes, *, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low / 1.2, high * 1.2)
    # The default labels are math markup, which is off.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 10 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
