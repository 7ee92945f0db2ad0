"""Scores of a classifier from addable confusion matrices, and their intervals by speaker."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

INTERVAL_PERCENT = (2.5, 97.5)
METRICS = ("accuracy", "uar", "macro_f1")


def confusion(
    target: Int[np.ndarray, " clips"], predicted: Int[np.ndarray, " clips"], num_classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Confusion matrix, rows target and columns predicted, as int64 counts.

    Matrices of disjoint sets of clips add up to that of their union; no clips give zeros.
    """
    group = np.zeros(len(target), np.int64)
    return _confusions(target, predicted, group, num_classes=num_classes, num_groups=1)[0]


def scores(confusion: Int[np.ndarray, "classes classes"], classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, UAR, macro F1 and recalls of a confusion matrix, as plain JSON values.

    `uar` is the mean recall over the classes that have clips. `macro_f1` is the mean of
    2 TP / (2 TP + FP + FN) over the classes that are a target or a prediction of any clip (scikit-learn's
    macro average). What is undefined (no clips; the recall of a class without clips) is None.
    `absent` lists the classes without clips, `never_predicted` those that no clip was taken for.
    """
    assert len(classes) == len(confusion), (len(classes), confusion.shape)
    recalls = _recalls(confusion[None])[0]
    return {
        "num_clips": int(confusion.sum()),
        **{name: plain(value[0]) for name, value in _metrics(confusion[None]).items()},
        "recall": {name: plain(value) for name, value in zip(classes, recalls, strict=True)},
        "never_predicted": [name for name, n in zip(classes, confusion.sum(0), strict=True) if n == 0],
        "absent": [name for name, n in zip(classes, confusion.sum(1), strict=True) if n == 0],
        "confusion": confusion.tolist(),
    }


def bootstrap_by_speaker(
    target: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"],
    speaker: Sequence[str] | Shaped[np.ndarray, " clips"],
    *,
    num_classes: int,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float] | None]:
    """95 % percentile intervals of accuracy, UAR and macro F1, by resampling whole speakers.

    Each sample draws as many speakers as there are, with replacement, and scores all their clips
    together: the clips of one speaker are alike, so resampling clips would give intervals that are too
    narrow. The order of the clips does not matter. None where there are fewer than two speakers.
    Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8.
    """
    speakers, group = np.unique(np.asarray(speaker, dtype=np.str_), return_inverse=True)
    if len(speakers) < 2:
        return dict.fromkeys(METRICS)
    by_speaker = _confusions(target, predicted, group, num_classes=num_classes, num_groups=len(speakers))
    weights = resampled(len(speakers), num_samples=num_samples, seed=seed)
    flat = weights @ by_speaker.reshape(len(speakers), -1)
    samples = _metrics(flat.reshape(num_samples, num_classes, num_classes))
    return {name: interval(values) for name, values in samples.items()}


def difference_by_speaker(
    target: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"],
    other: Int[np.ndarray, " clips"],
    speaker: Sequence[str] | Shaped[np.ndarray, " clips"],
    *,
    num_classes: int,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float] | None]:
    """95 % percentile intervals of how much higher `predicted` scores than `other`, on the same clips.

    Both are scored on the same samples of whole speakers, so what makes a speaker hard for both cancels
    out. None where there are fewer than two speakers.
    """
    speakers, group = np.unique(np.asarray(speaker, dtype=np.str_), return_inverse=True)
    if len(speakers) < 2:
        return dict.fromkeys(METRICS)
    weights = resampled(len(speakers), num_samples=num_samples, seed=seed)
    samples = []
    for own in (predicted, other):
        by_speaker = _confusions(target, own, group, num_classes=num_classes, num_groups=len(speakers))
        flat = weights @ by_speaker.reshape(len(speakers), -1)
        samples.append(_metrics(flat.reshape(num_samples, num_classes, num_classes)))
    return {name: interval(samples[0][name] - samples[1][name]) for name in METRICS}


def _confusions(
    target: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"],
    group: Int[np.ndarray, " clips"],
    *,
    num_classes: int,
    num_groups: int,
) -> Int[np.ndarray, "groups classes classes"]:
    """One confusion matrix per group of clips."""
    shape = (num_groups, num_classes, num_classes)
    # ravel_multi_index raises on a class outside the matrix instead of counting it elsewhere.
    cells = np.ravel_multi_index((group, target, predicted), shape)
    return np.bincount(cells, minlength=num_groups * num_classes**2).reshape(shape).astype(np.int64)


def resampled(num_speakers: int, *, num_samples: int, seed: int) -> Int[np.ndarray, "samples speakers"]:
    """How often each speaker is drawn in each bootstrap sample."""
    drawn = np.random.default_rng(seed).integers(num_speakers, size=(num_samples, num_speakers))
    cells = drawn + num_speakers * np.arange(num_samples)[:, None]
    return np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)


def _metrics(
    confusions: Int[np.ndarray, "matrices classes classes"],
) -> dict[str, Float[np.ndarray, " matrices"]]:
    """Accuracy, UAR and macro F1 of each confusion matrix; NaN where it has no clips."""
    hits = np.einsum("mii->mi", confusions)
    occurrences = confusions.sum(-1) + confusions.sum(-2)
    return {
        "accuracy": ratio(hits.sum(-1), confusions.sum((-1, -2))),
        "uar": mean_of_defined(_recalls(confusions)),
        "macro_f1": mean_of_defined(ratio(2 * hits, occurrences)),
    }


def _recalls(
    confusions: Int[np.ndarray, "matrices classes classes"],
) -> Float[np.ndarray, "matrices classes"]:
    """Fraction of each class's clips that were predicted right; NaN for a class without clips."""
    return ratio(np.einsum("mii->mi", confusions), confusions.sum(-1))


def ratio(
    part: Shaped[np.ndarray, "*shape"], whole: Shaped[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Part / whole; NaN where whole is 0."""
    undefined = np.full(whole.shape, np.nan)
    return np.divide(part, whole, out=undefined, where=whole > 0)


def mean_of_defined(values: Float[np.ndarray, "matrices classes"]) -> Float[np.ndarray, " matrices"]:
    """Mean over the classes that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1))


def plain(value: np.floating | float) -> float | None:
    """The value as a plain float; None for NaN."""
    return None if np.isnan(value) else float(value)


def interval(values: Float[np.ndarray, " samples"]) -> tuple[float, float] | None:
    """The 95 % percentile interval of the values that are not NaN; None where all are."""
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return None
    low, high = np.percentile(defined, INTERVAL_PERCENT)
    return float(low), float(high)
