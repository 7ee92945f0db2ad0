"""Sections on slices of the clips and on calibration; empty for runs without these numbers."""

from collections.abc import Mapping
from typing import Any

from w2v2.reports.blocks import Block, Cell, Measured, Paragraph, Table, count, percent, score, words
from w2v2.reports.text import interval_text, points_text


def slices(metrics: Mapping[str, Any]) -> list[Block]:
    """Scores by slice, with the gap between the highest and the lowest, and whether chance makes as large a gap."""
    rows: list[list[Cell]] = []
    texts = []
    for name, found in metrics.get("slices", {}).items():
        if "gap" not in found:
            texts.append(f"By {name} nothing is compared: {found['undefined']}.")
            continue
        for value, own in found["values"].items():
            rows.append(
                [name, value, Measured(own["value"], own["interval"]), own["num_clips"], own["num_speakers"]]
            )
        gap = found["gap"]
        within = f" ({interval_text(gap['interval'], points_text)})" if gap["interval"] else ""
        texts.append(
            f"By {name}, {gap['highest']} is above {gap['lowest']} by {points_text(gap['value'])} points{within}; with the "
            f"values permuted, a gap as large comes up in {100 * found['p']:.1f}%."
        )
        if found["left_out"]:
            texts[-1] += f" Not every {name} has {', '.join(found['left_out'])}, so these are left out."
    columns = [words("by"), words("value"), percent("UAR"), count("clips"), count("speakers")]
    caption = "UAR by slice with 95% intervals, over the classes that all values of the slice have."
    table = [Table("slices", columns, rows, caption)] if rows else []
    return [*table, *map(Paragraph, texts)]


def calibration(metrics: Mapping[str, Any]) -> list[Block]:
    """Calibration error, Brier score and cross-entropy, before and after a temperature, and accuracy by confidence."""
    found = metrics.get("calibration", {})
    if found.get("ece") is None:
        return []
    after = found.get("temperature")
    names = ("ece", "brier", "cross_entropy")
    rows: list[list[Cell]] = [["as predicted", *(found[name] for name in names)]]
    if after:
        rows.append(["with a temperature fitted on the other folds", *(after[name] for name in names)])
    columns = [
        words("probabilities"),
        score("calibration error"),
        score("Brier score"),
        score("cross-entropy"),
    ]
    bins: list[list[Cell]] = [[row["confidence"], row["accuracy"], row["num_clips"]] for row in found["bins"]]
    heads = [percent("mean confidence"), percent("accuracy"), count("clips")]
    text = "A calibrated model is right as often as its probability says: confidence and accuracy are equal."
    if after:
        text += f" Over all folds the temperature is {after['all']:.3g}; above 1 the model was too sure."
    return [
        Table(
            "calibration",
            columns,
            rows,
            "Expected calibration error (15 bins), Brier score, cross-entropy in nats.",
        ),
        Paragraph(text),
        Table("reliability", heads, bins, "Clips by the probability of the predicted class."),
    ]
