"""Details of a classifier's scores: slices of the clips, calibration, recording quality, and lines for the terminal."""

from collections.abc import Sequence

import pyarrow as pa

from w2v2.data.groups import rows_of
from w2v2.data.slices import slice_columns
from w2v2.data.targets import class_numbers
from w2v2.evaluation import scores
from w2v2.evaluation.calibration import calibration
from w2v2.evaluation.recording_quality import recording_details, recording_warnings
from w2v2.evaluation.slices import slice_scores
from w2v2.json_types import Json, JsonObject


def class_details(
    predictions: pa.Table,
    clips: pa.Table,
    classes: Sequence[str],
    *,
    columns: Sequence[str],
    seed: int,
    temperature: JsonObject | None = None,
) -> dict[str, Json]:
    """`slices`, `calibration` and `recordings` of a predictions table, as plain JSON.

    columns are columns of clips to slice by, in addition to those that RAVDESS's file names give, which are left out
    where all clips have the same value. temperature is the one that is kept with the model, if any.
    """
    rows = rows_of(clips.select(["clip_id", *columns]), predictions["clip_id"])
    target, predicted = (class_numbers(predictions[name], classes) for name in ("target", "predicted"))
    fold = scores.fold_of(predictions)
    speaker = predictions["speaker"]
    by_column = {
        name: slice_scores(target, predicted, speaker, values, classes=classes, fold=fold, seed=seed)
        for name, values in slice_columns(rows, columns).items()
        if name in columns or len(set(values)) > 1
    }
    probabilities = scores.columns(predictions, "prob", classes)
    calibrated = calibration(probabilities, target, fold=fold, temperature=temperature)
    recordings = recording_details(clips, predictions=predictions, classes=classes, seed=seed)
    return {"slices": by_column, "calibration": calibrated, "recordings": recordings}


def detail_lines(metrics: JsonObject) -> list[str]:
    """Lines for the terminal: one for each slice, one on calibration, and warnings of recordings, where metrics has them."""
    lines = []
    for name, row in metrics.get("slices", {}).items():
        if "gap" not in row:
            lines.append(f"by {name}: undefined, {row['undefined']}")
            continue
        gap = row["gap"]
        within = scores.within_text(gap["interval"], gap["undefined"])
        scores_of_ends = (row["values"][gap[end]]["value"] for end in ("highest", "lowest"))
        high, low = map(scores.number_text, scores_of_ends)
        value = scores.number_text(gap["value"])
        lines.append(
            f"by {name}: {gap['highest']} {high}, {gap['lowest']} {low}; gap {value} {within}, p {row['p']:.3f}"
        )
    calibrated = metrics.get("calibration", {})
    if calibrated.get("ece") is not None:
        after = calibrated.get("temperature")
        on = after.get("fitted_on", "the other folds") if after else ""
        text = f"; after a temperature fitted on {on} {after['ece']:.3f}" if after else ""
        lines.append(
            f"calibration error {calibrated['ece']:.3f}{text}; Brier score {calibrated['brier']:.3f}"
        )
    return [*lines, *recording_warnings(metrics.get("recordings"))]
