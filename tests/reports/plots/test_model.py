"""What is drawn of one model is read back from the figures."""

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from tests.reports.plots.test_scores import check_svg, dots_of, labels_of
from w2v2.reports.plots import model as model_plots
from w2v2.reports.plots.style import RULE

CURVES = pa.table(
    {
        "epoch": [2, 1, 3],
        "train_loss": [0.8, 1.0, 0.6],
        "train_uar": [0.5, 0.3, None],
        "learning_rate": [1e-3, 2e-3, 0.0],
        "val_loss": [None, 1.2, 0.9],
    }
)
POOLED = {
    "labels": {"a $x$": {"auc": 0.7}, "b": {"auc": None}, "c": {"auc": 0.9}},
    "intervals": {"labels": {"a $x$": {"auc": [0.6, 0.8]}, "b": {"auc": None}, "c": {"auc": None}}},
}
TARGET, PREDICTED = np.array([[1.0, 2], [np.nan, 3], [4, 5]]), np.array([[1.5, 2], [3, 3], [4, 4.5]])


def _roc(num_labels: int) -> Figure:
    rates = np.array([0.0, 0.25, 1.0]), np.array([0.0, 0.75, 1.0])
    return model_plots.roc({f"label {i}": rates for i in range(num_labels)})


def _all() -> dict[str, Figure]:
    return {
        "learning_curves": model_plots.learning_curves(CURVES, loss="MSE", best_epoch=2),
        "roc": _roc(2),
        "auc": model_plots.label_scores(POOLED),
        "scatter": model_plots.scatter(TARGET[:, 0], PREDICTED[:, 0], name="valence"),
        "plane": model_plots.plane(TARGET, PREDICTED, ["valence", "arousal"], midpoints=[2, 3]),
    }


LABELS = {
    "learning_curves": [("", "MSE"), ("", "training\nUAR (%)"), ("epoch", "learning\nrate")],
    "roc": [("false positive rate (%)", "true positive rate (%)")],
    "auc": [("AUC", "")],
    "scatter": [("target valence", "predicted valence")],
    "plane": [("valence", "arousal")],
}


def test_axes_are_labelled_with_their_units() -> None:
    assert {name: labels_of(figure) for name, figure in _all().items()} == LABELS


@pytest.mark.parametrize("name", sorted(LABELS))
def test_svg_is_well_formed_and_takes_its_colours_from_the_page(name: str) -> None:
    check_svg(_all()[name], name=name)


def lines_of(figure: Figure, axes: int = 0) -> dict[str, list[list[float]]]:
    return {line.get_label(): line.get_xydata().tolist() for line in figure.axes[axes].lines}


def test_curves_are_by_epoch_and_leave_out_what_is_unknown() -> None:
    figure = _all()["learning_curves"]
    lines = lines_of(figure)
    assert lines["train"] == [[1, 1.0], [2, 0.8], [3, 0.6]] and lines["validation"] == [[1, 1.2], [3, 0.9]]
    assert lines["weights kept"][0][0] == 2
    assert next(iter(lines_of(figure, 1).values())) == [[1, 30], [2, 50]]


def test_curves_of_a_task_without_classes_and_without_validation() -> None:
    nothing = pa.array([None] * 3, pa.float64())
    curves = CURVES.set_column(2, "train_uar", nothing).set_column(4, "val_loss", nothing)
    figure = model_plots.learning_curves(curves, loss="MSE", best_epoch=0)
    assert len(figure.axes) == 2 and set(lines_of(figure)) == {"train"}


def test_auc_of_each_defined_label_best_on_top_with_its_interval() -> None:
    figure = model_plots.label_scores(POOLED)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a $x$", "c"]
    assert dots_of(figure) == [[0.7, 0], [0.9, 1]]
    assert [[0.6, 0.0], [0.8, 0.0]] in lines_of(figure).values()


def test_roc_curves_of_many_labels_name_the_first_six() -> None:
    axes = _roc(8).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["chance", *(f"label {i}" for i in range(6))]
    assert axes.lines[1].get_xydata().tolist() == [[0, 0], [25, 75], [100, 100]]
    assert [line.get_color() for line in axes.lines[-2:]] == [RULE, RULE]


def test_scatter_and_plane_leave_out_missing_targets() -> None:
    figures = _all()
    assert dots_of(figures["scatter"]) == [[1, 1.5], [4, 4]]
    assert dots_of(figures["plane"]) == [[1, 2], [4, 5], [1.5, 2], [4, 4.5]]


def test_quadrants_are_named_in_their_corners_where_there_are_midpoints() -> None:
    places = {text.get_text(): text.get_position() for text in _all()["plane"].axes[0].texts}
    assert {name: (x > 0.5, y > 0.5) for name, (x, y) in places.items()} == {
        "Q1": (True, True),
        "Q2": (False, True),
        "Q3": (False, False),
        "Q4": (True, False),
    }
    without = model_plots.plane(TARGET, PREDICTED, ["valence", "arousal"], midpoints=None)
    assert not without.axes[0].texts


@pytest.mark.parametrize(("num_points", "num_shown"), [(0, 0), (1, 1), (2000, 2000), (90001, 2000)])
def test_many_points_are_thinned_evenly(num_points: int, num_shown: int) -> None:
    places = model_plots.spread_out(num_points)
    assert len(places) == num_shown and len(set(places.tolist())) == num_shown
    if num_points:
        assert places[0] == 0 and places[-1] == num_points - 1


def test_no_target_gives_an_empty_plot() -> None:
    assert dots_of(model_plots.scatter(np.array([np.nan]), np.array([1.0]), name="v")) == []
