"""What is drawn of a search is read back from the figures: labels with units, places and names."""

import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.reports.plots.test_scores import check_svg, dots_of, labels_of
from w2v2.reports.plots import search as search_plots
from w2v2.reports.plots.style import BLUE, VERMILLION, svg

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
    return {
        "history": search_plots.history(_trials(), metric="uar"),
        "fold_map": search_plots.fold_map(_folds(), _trials(), metric="uar", num_folds=3),
        "importance": search_plots.importance({"a": 0.2, "b": 0.8}),
        "curves": search_plots.learning_curves(_curves(), trial=1),
        "seconds": search_plots.seconds_by_trial(_trials()),
    }


LABELS = {
    "history": [("trial", "UAR, mean over folds (%)")],
    "fold_map": [("trial", "fold")],
    "importance": [("share of explained variance (%)", "")],
    "curves": [("epoch", "training loss (nats per clip)"), ("epoch", "training UAR (%)")],
    "seconds": [("trial", "time of its folds (min)")],
}


def test_axes_are_labelled_with_their_units() -> None:
    assert {name: labels_of(figure) for name, figure in _all().items()} == LABELS


@pytest.mark.parametrize("name", sorted(LABELS))
def test_svg_is_well_formed_and_takes_its_colours_from_the_page(name: str) -> None:
    check_svg(_all()[name], name=name)


def test_fold_map_has_a_square_for_each_fold_that_was_run() -> None:
    axes = search_plots.fold_map(_folds(), _trials(), metric="uar", num_folds=3).axes[0]
    places = [
        (round(p.get_x() + 0.45), round(p.get_y() + 0.45)) for p in axes.patches if isinstance(p, Rectangle)
    ]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_history_tells_states_apart_and_follows_the_best() -> None:
    axes = search_plots.history(_trials(), metric="uar").axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["best so far", "complete", "pruned", "failed"]
    assert list(axes.lines[0].get_xdata()) == [0, 3]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([30, 45])


def test_scatter_is_logarithmic_where_the_space_is_and_marks_the_best() -> None:
    figure = search_plots.scatter(_trials(), SPACE, metric="uar", best=3)
    assert [axes.get_xscale() for axes in figure.axes[:3]] == ["log", "linear", "linear"]
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    labels = [axes.get_xlabel() for axes in figure.axes[:3]]
    assert labels == ["optim.learning_rate (log)", "optim.beta1", "optim.batch_size"]
    assert [label.get_text() for label in figure.axes[2].get_xticklabels()] == ["8", "16", "32"]
    # Trial 2 failed; 16 is the second choice.
    assert [x for x, _ in dots_of(figure, 2)] == [1, 1, 1, 1]
    assert [y for _, y in dots_of(figure, 0)] == pytest.approx([30, 35, 45, 50])
    assert "1e-05" in svg(figure, name="scatter")


def test_learning_curves_are_those_of_one_trial_in_the_order_of_epochs() -> None:
    table = _curves().take(list(range(_curves().num_rows))[::-1])
    left, right = search_plots.learning_curves(table, trial=1).axes
    assert len(left.lines) == len(right.lines) == 7
    assert list(left.lines[0].get_xdata()) == [1, 2, 3]
    assert list(left.lines[0].get_ydata()) == pytest.approx([2, 1, 2 / 3])
    assert list(right.lines[6].get_ydata()) == pytest.approx([10, 20, 30])


def test_short_runs_are_timed_in_seconds() -> None:
    table = pa.Table.from_pylist([{"trial": 0, "state": "COMPLETE", "seconds": 7.0}])
    figure = search_plots.seconds_by_trial(table)
    assert figure.axes[0].get_ylabel() == "time of its folds (s)" and dots_of(figure) == [[0, 7]]


def test_nothing_to_draw_is_an_empty_figure() -> None:
    empty = _trials().slice(0, 0)
    figures = [
        search_plots.history(empty, metric="uar"),
        search_plots.fold_map(_folds().slice(0, 0), empty, metric="uar", num_folds=2),
        search_plots.learning_curves(_curves(), trial=9),
        search_plots.scatter(empty, {}, metric="uar", best=0),
    ]
    assert all(svg(figure, name="empty").startswith("<svg") for figure in figures)


def test_parallel_coordinates_place_each_value_within_its_range_and_end_in_the_score() -> None:
    axes = search_plots.parallel(_trials(), SPACE, metric="uar", best=3).axes[0]
    lines = [line.get_ydata().tolist() for line in axes.lines if len(line.get_ydata()) == 4]
    # Learning rates 0.1 (above its range), 0.01, 0.0001 and 1e-05 on a log scale; trial 2 has no score. 16 is
    # the middle of three choices. Scores run from 0.3 to 0.5.
    beta = (0.9 - 0.8) / 0.19
    expected = [
        [4 / 3, beta, 0.5, 0.0],
        [1.0, beta, 0.5, 0.25],
        [0.0, beta, 0.5, 1.0],
        [1 / 3, beta, 0.5, 0.75],
    ]
    assert lines == [pytest.approx(line) for line in expected]
    assert [line.get_color() for line in axes.lines[:4]] == [BLUE, BLUE, BLUE, VERMILLION]
    words = [text.get_text() for text in axes.texts]
    assert words == [
        "learning_rate",
        "1e-05",
        "0.01",
        "beta1",
        "0.8",
        "0.99",
        "batch_size",
        "8",
        "32",
        "UAR",
        "30.0%",
        "50.0%",
    ]


def test_parallel_coordinates_without_a_score_are_empty_axes() -> None:
    axes = search_plots.parallel(_trials().slice(2, 1), SPACE, metric="uar", best=0).axes[0]
    assert all(len(line.get_ydata()) == 2 for line in axes.lines)
