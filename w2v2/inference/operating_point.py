"""The temperature and thresholds in a model's card, and predictions to which they are applied."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from w2v2.errors import UserError
from w2v2.evaluation.calibration import with_temperature
from w2v2.inference.prediction_records import ClipPrediction, predictions_in_columns
from w2v2.json_types import Json
from w2v2.models.model_info import ModelInfo, read_card


def temperature_of(model: str, info: ModelInfo) -> float:
    """The temperature in the card of a model folder. Raises UserError if it has none."""
    kept = read_card(model).get("temperature") if info.kind == "classes" else None
    if info.kind != "classes" or not kept:
        why = "it is one of " + info.kind if info.kind != "classes" else "it was trained without"
        raise UserError(
            f"calibrated is true, and the model {model} has no temperature ({why}): leave it out, or train a model of classes "
            "with a val split, or with the best.yaml of a search"
        )
    return float(kept["value"])


def thresholds_of(model: str, info: ModelInfo) -> dict[str, float | None]:
    """The threshold of each label in the card of a model folder. Raises UserError if it has none."""
    kept = read_card(model).get("thresholds") if info.kind == "multi_label" else None
    if info.kind != "multi_label" or not kept:
        why = (
            "it is one of " + info.kind if info.kind != "multi_label" else "it was trained without val split"
        )
        raise UserError(
            f"decisions is true, and the model {model} has no thresholds ({why}): leave it out, or train a model of labels "
            "with a val split"
        )
    return dict(kept["recordings"])


def with_calibration(
    predictions: Sequence[ClipPrediction], temperature: float | None
) -> Sequence[ClipPrediction]:
    """The predictions with the temperature, if any, applied to their probabilities; rejects are unchanged."""
    if temperature is None:
        return predictions
    return predictions_in_columns(
        prediction
        if prediction.values is None
        else replace(prediction, values=with_temperature(prediction.values, temperature))
        for prediction in predictions
    )


def name_in_table(predictor: str, temperature: float | None) -> str:
    """The name of the predictor in the table's column `model`; with its temperature, if any.

    A table keeps one row for a clip and a model, so calibrated probabilities need another name of the model.

    >>> name_in_table("0123abcd", None), name_in_table("0123abcd", 1.25)
    ('0123abcd', '0123abcd-temperature-1.25')
    """
    return predictor if temperature is None else f"{predictor}-temperature-{temperature:.6g}"


def present(values: Mapping[str, float], thresholds: Mapping[str, float | None]) -> dict[str, Json]:
    """1 or 0 for each label by its probability, in columns present_<label>; None where it has no threshold."""
    return {
        f"present_{name}": None if (least := thresholds.get(name)) is None else int(value >= least)
        for name, value in values.items()
    }
