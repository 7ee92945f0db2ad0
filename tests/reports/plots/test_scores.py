"""What is drawn is read back from the figures: labels with units, places, sizes and names."""

import math
import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from w2v2.reports.plots import scores as plots
from w2v2.reports.plots.style import png, svg

SCORES = {"pooled": {"uar": 0.5, "intervals": {"uar": (0.4, 0.6)}}, "metric": "uar"}
METRICS = SCORES | {"folds": {"uar": {"values": [0.3, None, 0.7]}}, "selection": {"nested": 0.45}}
FOLDS = {"values": [0.2, 0.3, 0.4], "intervals": [[0.1, 0.3], None, [0.3, 0.5]]}


def _all() -> dict[str, Figure]:
    speakers = {"01": {"uar": 0.7}, "02": {"uar": None}, "03": {"uar": 0.2}}
    return {
        "forest": plots.forest(METRICS, chance=0.125),
        "folds": plots.fold_scores(FOLDS, metric="uar", interval=(0.2, 0.4), chance=0.125),
        "speakers": plots.speaker_scores(speakers, metric="uar", interval=(0.2, 0.4), chance=0.125),
        "confusion": plots.confusion([[5, 2], [0, 0]], ["a", "b"]),
    }


LABELS = {
    "forest": [("UAR (%)", "")],
    "folds": [("held-out fold", "UAR (%)")],
    "speakers": [("UAR (%)", "speaker")],
    "confusion": [("predicted class", "target class")],
}


def dots_of(figure: Figure, axes: int = 0) -> list[list[float]]:
    """The places of all dots of one panel, in the order drawn."""
    return [[float(x), float(y)] for dots in figure.axes[axes].collections for x, y in dots.get_offsets()]


def labels_of(figure: Figure) -> list[tuple[str, str]]:
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


def check_svg(figure: Figure, *, name: str) -> None:
    """The SVG is one element of well-formed XML and takes all its colours from the page."""
    drawn = svg(figure, name=name)
    ElementTree.fromstring(drawn)
    assert drawn.startswith("<svg") and "<style" not in drawn and "metadata" not in drawn
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawn))
    assert colours - {"none"} and all(c == "none" or c.startswith("var(--") for c in colours)


def test_axes_are_labelled_with_their_units() -> None:
    assert {name: labels_of(figure) for name, figure in _all().items()} == LABELS


@pytest.mark.parametrize("name", sorted(LABELS))
def test_svg_is_well_formed_and_takes_its_colours_from_the_page(name: str) -> None:
    check_svg(_all()[name], name=name)


def test_forest_draws_percent_and_leaves_out_what_is_undefined() -> None:
    dots = sorted(dots_of(plots.forest(METRICS, chance=None)))
    assert dots == [pytest.approx(dot) for dot in ([30, 1], [45, 2], [50, 0], [70, 1])]
    undefined = METRICS | {
        "pooled": {"uar": None, "intervals": {"uar": None}},
        "selection": {"nested": math.nan},
    }
    assert len(dots_of(plots.forest(undefined, chance=None))) == 2


def test_forest_draws_the_estimate_first_where_there_is_one() -> None:
    score = {"value": 0.42, "low": 0.35, "high": 0.49}
    axes = plots.forest(
        METRICS | {"estimate": {"name": "BBC-CV", "metrics": {"uar": score}}}, chance=None
    ).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "BBC-CV, 95% interval", "each fold, best trial", "best trial",
    ]  # fmt: skip
    dots = sorted([float(y), float(x)] for dots in axes.collections for x, y in dots.get_offsets())
    assert dots == [pytest.approx(dot) for dot in ([0, 42], [1, 30], [1, 70], [2, 50])]
    assert axes.lines[0].get_xdata().tolist() == pytest.approx([35, 49])


def test_folds_of_speakers_enough_have_intervals_below_each_other() -> None:
    folds = {"uar": {"values": [0.3, None, 0.7], "intervals": [[0.2, 0.4], None, [0.6, 0.8]]}}
    axes = plots.forest(METRICS | {"folds": folds}, chance=None).axes[0]
    bars = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]
    assert [x for x, _ in bars] == [pytest.approx(x) for x in ([40, 60], [20, 40], [60, 80])]
    heights = [y[0] for _, y in bars]
    dots = sorted([float(y), float(x)] for dots in axes.collections for x, y in dots.get_offsets())
    assert heights[0] == 0 and heights[1] == 1 < heights[2]
    assert dots == [pytest.approx(dot) for dot in ([0, 50], [1, 30], [heights[2], 70], [heights[2] + 1, 45])]
    low, high = axes.get_xlim()
    assert low < 20 and high > 80
    one_by_one = plots.fold_scores(FOLDS, metric="uar", interval=None, chance=None).axes[0]
    ends = [
        segment[:, 1].tolist()
        for part in one_by_one.collections
        for segment in getattr(part, "get_segments", list)()
    ]
    assert ends == [pytest.approx(end) for end in ([10, 30], [30, 50])]


def test_many_classes_have_counts_without_percents_and_very_many_none() -> None:
    for num_classes, num_texts in ((12, 12 * 12 + 12), (13, 13 * 13), (31, 0)):
        counts = [[2 * (i == j) for j in range(num_classes)] for i in range(num_classes)]
        axes = plots.confusion(counts, [str(i) for i in range(num_classes)]).axes[0]
        assert len(axes.texts) == num_texts


def test_speakers_are_sorted_with_the_best_on_top_and_undefined_ones_left_out() -> None:
    speakers = {"x": {"uar": 0.7}, "y": {"uar": None}, "z": {"uar": 0.2}, "w": {"uar": 0.5}}
    figure = plots.speaker_scores(speakers, metric="uar", interval=None, chance=None)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["z", "w", "x"]
    assert [x for x, _ in dots_of(figure)[-3:]] == pytest.approx([20, 50, 70])


def test_many_speakers_are_drawn_without_names() -> None:
    speakers = {str(i): {"uar": i / 100} for i in range(61)}
    figure = plots.speaker_scores(speakers, metric="uar", interval=None, chance=None)
    assert figure.axes[0].get_yticklabels() == [] and figure.get_figheight() <= 9


def test_confusion_colours_by_the_row_and_writes_counts_and_percents() -> None:
    axes = plots.confusion([[6, 2, 0], [1, 1, 2], [0, 0, 0]], ["a", "b", "c"]).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert [text for text in texts if not text.endswith("%")] == list("620112000")
    assert [text for text in texts if text.endswith("%")] == ["75%", "25%", "25%", "25%", "50%"]
    shades = [float(patch.get_alpha() or 0) for patch in axes.patches if isinstance(patch, Rectangle)]
    assert shades[0] > shades[5] > shades[1] == shades[3] == shades[4] > 0
    assert shades[6] == shades[7] == shades[8]


HOSTILE = ["$\\frac{1}$", "</svg><script>alert(1)</script>", "two\nlines\x00\u202e", "#1c2024", "x" * 99]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_never_markup_nor_mathematics(name: str) -> None:
    drawn = svg(plots.confusion([[1, 0], [0, 1]], [name, "b"]), name="hostile")
    ElementTree.fromstring(drawn)
    assert "<script" not in drawn and len(drawn) < 30_000
    labels = re.findall(r">([^<]*)</text>", drawn)
    expected = {
        "$\\frac{1}$": "$\\frac{1}$",
        "#1c2024": "#1c2024",
        "two\nlines\x00\u202e": "two lines??",
        "x" * 99: "xxxxxxxxxxx...",
    }
    assert expected.get(name, "&lt;/svg&gt;&lt;scri...") in labels
    png(plots.speaker_scores({name: {"uar": 0.5}}, metric="uar", interval=None, chance=None))


def test_nothing_to_draw_is_an_empty_figure() -> None:
    figures = [
        plots.speaker_scores({}, metric="uar", interval=None, chance=None),
        plots.fold_scores({"values": []}, metric="uar", interval=None, chance=None),
    ]
    assert all(svg(figure, name="empty").startswith("<svg") for figure in figures)
