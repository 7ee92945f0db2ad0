"""What is drawn is read back from the figures: labels with units, places, sizes and names."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from w2v2 import plots

SCORES = {"pooled": {"uar": 0.5, "intervals": {"uar": (0.4, 0.6)}}, "metric": "uar"}
METRICS = SCORES | {"folds": {"uar": {"values": [0.3, None, 0.7]}}, "selection": {"nested": 0.45}}
SPACE = {
    "optim.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "optim.beta1": {"low": 0.8, "high": 0.99},
    "optim.batch_size": {"choices": [8, 16, 32]},
}


def _trials() -> pa.Table:
    states = ["COMPLETE", "PRUNED", "FAIL", "COMPLETE", "RUNNING"]
    rows = [
        {
            "trial": i,
            "state": state,
            "uar_mean": None if state == "FAIL" else 0.3 + 0.05 * i,
            "seconds": 40.0 * (i + 1),
        }
        | {
            "params_optim.learning_rate": 10.0 ** -(i + 1),
            "params_optim.beta1": 0.9,
            "params_optim.batch_size": 16,
        }
        for i, state in enumerate(states)
    ]
    return pa.Table.from_pylist(rows)


def _folds() -> pa.Table:
    return pa.Table.from_pylist(
        [{"trial": t, "fold": f, "uar": 0.2 + 0.1 * f} for t, n in ((0, 3), (1, 2)) for f in range(n)]
    )


def _curves() -> pa.Table:
    rows = [
        {"trial": t, "fold": f, "epoch": e, "train_loss": 2.0 / e, "train_uar": 0.1 * e}
        for t in (0, 1)
        for f in range(7)
        for e in (1, 2, 3)
    ]
    return pa.Table.from_pylist(rows)


def _all() -> dict[str, Figure]:
    speakers = {"01": {"uar": 0.7}, "02": {"uar": None}, "03": {"uar": 0.2}}
    return {
        "forest": plots.forest(METRICS, chance=0.125),
        "folds": plots.fold_scores(_folds().slice(0, 3), metric="uar", interval=(0.2, 0.4), chance=0.125),
        "speakers": plots.speaker_scores(speakers, metric="uar", interval=(0.2, 0.4), chance=0.125),
        "confusion": plots.confusion([[5, 2], [0, 0]], ["a", "b"]),
        "history": plots.history(_trials(), metric="uar"),
        "fold_map": plots.fold_map(_folds(), _trials(), metric="uar", num_folds=3),
        "importance": plots.importance({"a": 0.2, "b": 0.8}),
        "curves": plots.learning_curves(_curves(), trial=1),
        "seconds": plots.seconds_by_trial(_trials()),
    }


LABELS = {
    "forest": [("UAR (%)", "")],
    "folds": [("held-out fold", "UAR (%)")],
    "speakers": [("UAR (%)", "speaker")],
    "confusion": [("predicted class", "target class")],
    "history": [("trial", "UAR, mean over folds (%)")],
    "fold_map": [("trial", "fold")],
    "importance": [("share of explained variance (%)", "")],
    "curves": [("epoch", "training loss (nats per clip)"), ("epoch", "training UAR (%)")],
    "seconds": [("trial", "time of its folds (min)")],
}


def _dots(figure: Figure, axes: int = 0) -> list[list[float]]:
    """The places of all dots of one panel, in the order drawn."""
    return [[float(x), float(y)] for dots in figure.axes[axes].collections for x, y in dots.get_offsets()]


def test_axes_are_labelled_with_their_units() -> None:
    drawn = {name: [(a.get_xlabel(), a.get_ylabel()) for a in figure.axes] for name, figure in _all().items()}
    assert drawn == LABELS


@pytest.mark.parametrize("name", sorted(LABELS))
def test_svg_is_well_formed_and_takes_its_colours_from_the_page(name: str) -> None:
    svg = plots.svg(_all()[name], name=name)
    ElementTree.fromstring(svg)
    assert svg.startswith("<svg") and "<style" not in svg and "metadata" not in svg
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
    assert colours - {"none"} and all(c == "none" or c.startswith("var(--") for c in colours)


def test_forest_draws_percent_and_leaves_out_what_is_undefined() -> None:
    dots = sorted(_dots(plots.forest(METRICS, chance=None)))
    assert dots == [pytest.approx(dot) for dot in ([30, 1], [45, 2], [50, 0], [70, 1])]
    undefined = METRICS | {
        "pooled": {"uar": None, "intervals": {"uar": None}},
        "selection": {"nested": math.nan},
    }
    assert len(_dots(plots.forest(undefined, chance=None))) == 2


def test_speakers_are_sorted_with_the_best_on_top_and_undefined_ones_left_out() -> None:
    speakers = {"x": {"uar": 0.7}, "y": {"uar": None}, "z": {"uar": 0.2}, "w": {"uar": 0.5}}
    figure = plots.speaker_scores(speakers, metric="uar", interval=None, chance=None)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["z", "w", "x"]
    assert [x for x, _ in _dots(figure)[-3:]] == pytest.approx([20, 50, 70])


def test_many_speakers_stand_without_names() -> None:
    speakers = {str(i): {"uar": i / 100} for i in range(61)}
    figure = plots.speaker_scores(speakers, metric="uar", interval=None, chance=None)
    assert figure.axes[0].get_yticklabels() == [] and figure.get_figheight() <= 9


def test_confusion_colours_by_the_row_and_writes_counts() -> None:
    axes = plots.confusion([[6, 2, 0], [1, 1, 2], [0, 0, 0]], ["a", "b", "c"]).axes[0]
    assert [text.get_text() for text in axes.texts] == list("620112000")
    shades = [float(patch.get_alpha() or 0) for patch in axes.patches if isinstance(patch, Rectangle)]
    assert shades[0] > shades[5] > shades[1] == shades[3] == shades[4] > 0
    assert shades[6] == shades[7] == shades[8]


def test_fold_map_has_a_square_for_each_fold_that_was_run() -> None:
    axes = plots.fold_map(_folds(), _trials(), metric="uar", num_folds=3).axes[0]
    places = [
        (round(p.get_x() + 0.45), round(p.get_y() + 0.45)) for p in axes.patches if isinstance(p, Rectangle)
    ]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_history_tells_states_apart_and_follows_the_best() -> None:
    axes = plots.history(_trials(), metric="uar").axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["best so far", "complete", "pruned", "failed"]
    assert list(axes.lines[0].get_xdata()) == [0, 3]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([30, 45])


def test_scatter_is_logarithmic_where_the_space_is_and_marks_the_best() -> None:
    figure = plots.scatter(_trials(), SPACE, metric="uar", best=3)
    assert [axes.get_xscale() for axes in figure.axes[:3]] == ["log", "linear", "linear"]
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    labels = [axes.get_xlabel() for axes in figure.axes[:3]]
    assert labels == ["optim.learning_rate (log)", "optim.beta1", "optim.batch_size"]
    assert [label.get_text() for label in figure.axes[2].get_xticklabels()] == ["8", "16", "32"]
    # Trial 2 failed; 16 is the second choice.
    assert [x for x, _ in _dots(figure, 2)] == [1, 1, 1, 1]
    assert [y for _, y in _dots(figure, 0)] == pytest.approx([30, 35, 45, 50])
    assert "1e-05" in plots.svg(figure, name="scatter")


def test_learning_curves_are_those_of_one_trial_in_the_order_of_epochs() -> None:
    table = _curves().take(list(range(_curves().num_rows))[::-1])
    left, right = plots.learning_curves(table, trial=1).axes
    assert len(left.lines) == len(right.lines) == 7
    assert list(left.lines[0].get_xdata()) == [1, 2, 3]
    assert list(left.lines[0].get_ydata()) == pytest.approx([2, 1, 2 / 3])
    assert list(right.lines[6].get_ydata()) == pytest.approx([10, 20, 30])


def test_short_runs_are_timed_in_seconds() -> None:
    table = pa.Table.from_pylist([{"trial": 0, "state": "COMPLETE", "seconds": 7.0}])
    figure = plots.seconds_by_trial(table)
    assert figure.axes[0].get_ylabel() == "time of its folds (s)" and _dots(figure) == [[0, 7]]


HOSTILE = ["$\\frac{1}$", "</svg><script>alert(1)</script>", "two\nlines\x00\u202e", "#1c2024", "x" * 99]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_never_markup_nor_mathematics(name: str) -> None:
    svg = plots.svg(plots.confusion([[1, 0], [0, 1]], [name, "b"]), name="hostile")
    ElementTree.fromstring(svg)
    assert "<script" not in svg and len(svg) < 30_000
    labels = re.findall(r">([^<]*)</text>", svg)
    expected = {
        "$\\frac{1}$": "$\\frac{1}$",
        "#1c2024": "#1c2024",
        "two\nlines\x00\u202e": "two lines??",
        "x" * 99: "xxxxxxxxxxx...",
    }
    assert expected.get(name, "&lt;/svg&gt;&lt;scri...") in labels
    plots.png(plots.speaker_scores({name: {"uar": 0.5}}, metric="uar", interval=None, chance=None))


def test_nothing_to_draw_is_an_empty_figure() -> None:
    empty = _trials().slice(0, 0)
    figures: list[Any] = [
        plots.history(empty, metric="uar"),
        plots.fold_map(_folds().slice(0, 0), empty, metric="uar", num_folds=2),
        plots.learning_curves(_curves(), trial=9),
        plots.scatter(empty, {}, metric="uar", best=0),
        plots.speaker_scores({}, metric="uar", interval=None, chance=None),
        plots.fold_scores(_folds().slice(0, 0), metric="uar", interval=None, chance=None),
    ]
    assert all(plots.svg(figure, name="empty").startswith("<svg") for figure in figures)
