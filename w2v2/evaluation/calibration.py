"""Calibration of class probabilities: calibration error, Brier score, and a temperature that corrects them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from w2v2.json_types import JsonObject

NUM_BINS = 15
_LEAST = 1e-12
_CLIPS_AT_ONCE = 100_000


def calibration(
    probabilities: Float[np.ndarray, "clips classes"],
    target: Int[np.ndarray, " clips"],
    *,
    fold: Int[np.ndarray, " clips"] | None = None,
    temperature: JsonObject | None = None,
) -> dict[str, Any]:
    """Calibration of all clips as plain JSON; where there are folds, also after a temperature for each of them.

    `ece` is the expected calibration error of the predicted class over 15 bins of equal width, the mean of
    |accuracy - confidence| weighted by clips (Guo et al. 2017); it is biased upward where bins hold few clips. `brier` is the
    mean over clips of the squared distance between the probabilities and the target as 0s and 1s, 0 to 2 (Brier 1950);
    `cross_entropy` is in nats. The temperature of a fold (Guo et al. 2017) is fitted on the clips of the other folds, so
    that no speaker's clips correct themselves; `temperature` has it and the scores after it. Without folds it is the one
    given, `value` and `fitted_on`, of clips that are not among these. None without clips.
    """
    if not len(target):
        return {"ece": None, "brier": None, "cross_entropy": None, "bins": []}
    uncorrected = _scores(probabilities, target) | {"bins": _bins(probabilities, target)}
    if temperature is not None:
        corrected = with_temperature(probabilities, temperature["value"])
        after = _scores(corrected, target) | {"bins": _bins(corrected, target)}
        kept = {"all": temperature["value"], "fitted_on": temperature["fitted_on"]}
        return uncorrected | {"temperature": kept | after}
    if fold is None or len(np.unique(fold)) < 2:
        return uncorrected
    corrected, by_fold = np.empty_like(probabilities, dtype=np.float64), {}
    for held_out in np.unique(fold):
        is_held_out = fold == held_out
        by_fold[str(held_out)] = fitted_temperature(probabilities[~is_held_out], target[~is_held_out])
        corrected[is_held_out] = with_temperature(probabilities[is_held_out], by_fold[str(held_out)])
    after = _scores(corrected, target) | {"bins": _bins(corrected, target)}
    return uncorrected | {
        "temperature": {"by_fold": by_fold, "all": fitted_temperature(probabilities, target)} | after
    }


def with_temperature(
    probabilities: Float[np.ndarray, "clips classes"], temperature: float
) -> Float[np.ndarray, "clips classes"]:
    """Rows softmax(log p / temperature): closer to uniform above 1, sharper below 1; the predicted class stays the same.

    >>> with_temperature(np.array([[0.8, 0.2]]), 0.5).round(3)
    array([[0.941, 0.059]])
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fitted_temperature(
    probabilities: Float[np.ndarray, "clips classes"], target: Int[np.ndarray, " clips"]
) -> float:
    """The temperature in [0.05, 20] with the lowest mean cross-entropy."""

    def loss(temperature: float) -> float:
        return _mean(
            lambda rows: -_log_likely(with_temperature(probabilities[rows], temperature), target[rows]),
            len(target),
        )

    return best_temperature(loss, low=0.05, high=20)


def best_temperature(loss: Callable[[float], float], *, low: float, high: float) -> float:
    """The temperature between low and high with the lowest loss, by a bounded search over its logarithm."""
    from scipy.optimize import minimize_scalar

    minimum = minimize_scalar(
        lambda log_temperature: loss(float(np.exp(log_temperature))),
        bounds=(np.log(low), np.log(high)),
        method="bounded",
    )
    return float(np.exp(minimum.x))


def _scores(
    probabilities: Float[np.ndarray, "clips classes"], target: Int[np.ndarray, " clips"]
) -> dict[str, float]:
    classes = np.eye(probabilities.shape[1])
    bins = _bins(probabilities, target)
    error = sum(row["num_clips"] * abs(row["accuracy"] - row["confidence"]) for row in bins)
    return {
        "ece": float(error / len(target)),
        "brier": _mean(lambda rows: ((probabilities[rows] - classes[target[rows]]) ** 2).sum(1), len(target)),
        "cross_entropy": _mean(lambda rows: -_log_likely(probabilities[rows], target[rows]), len(target)),
    }


def _log_likely(
    probabilities: Float[np.ndarray, "clips classes"], target: Int[np.ndarray, " clips"]
) -> Float[np.ndarray, " clips"]:
    likely = probabilities[np.arange(len(target)), target]
    return np.log(np.maximum(likely, _LEAST))


def _mean(of_rows: Callable[[slice], Float[np.ndarray, " clips"]], num_clips: int) -> float:
    """The mean over all clips of the values that of_rows returns for some of them at a time."""
    starts = range(0, num_clips, _CLIPS_AT_ONCE)
    return float(sum(of_rows(slice(at, at + _CLIPS_AT_ONCE)).sum() for at in starts) / num_clips)


def _bins(
    probabilities: Float[np.ndarray, "clips classes"], target: Int[np.ndarray, " clips"]
) -> list[dict[str, float]]:
    """Mean confidence, accuracy and number of clips of each bin that is not empty, in order of confidence."""
    confidence = probabilities.max(1)
    is_right = probabilities.argmax(1) == target
    number = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    return [
        {
            "confidence": float(confidence[number == bin_number].mean()),
            "accuracy": float(is_right[number == bin_number].mean()),
            "num_clips": int((number == bin_number).sum()),
        }
        for bin_number in np.unique(number)
    ]
