"""Sections on slices of the clips and on calibration; empty for runs without these numbers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from w2v2.json_types import JsonObject
from w2v2.reports.blocks import Block, Cell, Paragraph, Table, count, percent, score, words
from w2v2.reports.shared_sections import interval_score, pictured
from w2v2.reports.text import interval_text, points_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def slices(metrics: JsonObject) -> list[Block]:
    """Scores by slice, with the gap between the highest and the lowest, and whether chance makes as large a gap."""
    return slice_blocks("slices", metrics.get("slices", {}))


def slice_blocks(table_name: str, by_column: JsonObject) -> list[Block]:
    """A table of this name of the scores of each slice, and a sentence on each column."""
    rows: list[list[Cell]] = []
    texts = []
    for name, slice_ in by_column.items():
        if "gap" not in slice_:
            texts.append(f"By {name} nothing is compared: {slice_['undefined']}.")
            continue
        for value, row in slice_["values"].items():
            rows.append([name, value, interval_score(row), row["num_clips"], row["num_speakers"]])
        gap = slice_["gap"]
        within = f" ({interval_text(gap['interval'], points_text)})" if gap["interval"] else ""
        texts.append(
            f"By {name}, {gap['highest']} is above {gap['lowest']} by {points_text(gap['value'])} points{within}; with the "
            f"values permuted, a gap as large comes up in {100 * slice_['p']:.1f}%."
        )
        if slice_["left_out"]:
            texts[-1] += f" Not every {name} has {', '.join(slice_['left_out'])}, so these are left out."
    columns = [words("by"), words("value"), percent("UAR"), count("clips"), count("speakers")]
    caption = "UAR by slice with 95% intervals, over the classes that all values of the slice have."
    table = [Table(table_name, columns, rows, caption)] if rows else []
    return [*table, *map(Paragraph, texts)]


def calibration(metrics: JsonObject, figures: Mapping[str, "Figure"]) -> list[Block]:
    """Calibration error, Brier score and cross-entropy, before and after a temperature, and accuracy by confidence."""
    numbers = metrics.get("calibration", {})
    if numbers.get("ece") is None:
        return []
    after = numbers.get("temperature")
    names = ("ece", "brier", "cross_entropy")
    rows: list[list[Cell]] = [["as predicted", *(numbers[name] for name in names)]]
    if after:
        on = after.get("fitted_on", "the other folds")
        rows.append([f"with a temperature fitted on {on}", *(after[name] for name in names)])
    columns = [
        words("probabilities"),
        score("calibration error"),
        score("Brier score"),
        score("cross-entropy"),
    ]
    bins: list[list[Cell]] = [
        [row["confidence"], row["accuracy"], row["num_clips"]] for row in numbers["bins"]
    ]
    heads = [percent("mean confidence"), percent("accuracy"), count("clips")]
    text = "A calibrated model is right as often as its probability says: confidence and accuracy are equal."
    if after:
        which = "The" if "fitted_on" in after else "Over all folds the"
        text += f" {which} temperature is {after['all']:.3g}; above 1 the model was too sure."
    return [
        Table(
            "calibration",
            columns,
            rows,
            "Expected calibration error (15 bins), Brier score, cross-entropy in nats.",
        ),
        Paragraph(text),
        *pictured(
            figures,
            "reliability",
            "Accuracy of the clips by the probability of the predicted class, dots as large as their numbers. Dashed: calibrated.",
        ),
        Table("reliability", heads, bins, "Clips by the probability of the predicted class."),
    ]
