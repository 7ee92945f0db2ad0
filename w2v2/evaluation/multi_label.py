"""Scores of several labels, each present or not in a clip, of all clips and of samples of their speakers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from w2v2.data.groups import Names, numbered
from w2v2.evaluation.bootstrap import Scored, Values, blocks, fold_of_each, mean_of_defined, plain, ratio

METRICS = ("auc", "average_precision")
MEANS = ("macro_auc", "weighted_auc", "macro_average_precision")


def scores(
    target: Float[np.ndarray, "clips labels"],
    predicted: Float[np.ndarray, "clips labels"],
    names: Sequence[str],
) -> dict[str, Any]:
    """AUC and average precision of each label, and their means, as plain JSON values.

    Targets are 1, 0 or NaN (missing: the clip is left out of that label); predicted grows with the
    probability. `auc` is the probability that a clip with the label ranks above one without, ties counting
    half. `macro_auc` is the mean over the labels that have both kinds of clips, `weighted_auc` weighs it by
    the clips with the label (scikit-learn's averages). A label with one kind of clip or none has None, and
    appears under `undefined` with the reason; `num_defined` is the number of labels that the means are over.
    """
    once = np.ones((1, len(target)), np.int64)
    by_label = _metrics(target, predicted, np.arange(len(target)), once)
    counts = {
        "num_positive": np.sum(target == 1, 0),
        "num_negative": np.sum(target == 0, 0),
        "num_missing": np.isnan(target).sum(0),
    }
    labels = {
        name: {metric: plain(by_label[metric][0, i]) for metric in METRICS}
        | {count: int(values[i]) for count, values in counts.items()}
        for i, name in enumerate(names)
    }
    return {
        "num_clips": len(target),
        **{name: plain(values[0]) for name, values in _means(by_label).items()},
        "num_defined": sum(row["auc"] is not None for row in labels.values()),
        "labels": labels,
        "undefined": {name: _why(row) for name, row in labels.items() if row["auc"] is None},
    }


def by_speaker(
    target: Float[np.ndarray, "clips labels"],
    predicted: Float[np.ndarray, "clips labels"],
    speaker: Names,
    names: Sequence[str],
    *,
    fold: Int[np.ndarray, " clips"] | None = None,
) -> Scored:
    """The means and, as `auc:<label>` and `average_precision:<label>`, each label's, of any sample of the speakers.

    A label with one kind of clip in a sample is NaN in it, and so are the means, unless all speakers together do not
    define the label either. fold is each clip's fold, where each fold has a separate model.
    """
    speakers, group = numbered(speaker)
    defined = ((target == 1).any(0) & (target == 0).any(0))[None]

    def values(counts: Shaped[np.ndarray, "samples speakers"]) -> Values:
        by_label = _metrics(target, predicted, group, counts)
        lacks = (defined & np.isnan(by_label["auc"])).any(1)
        means = {name: np.where(lacks, np.nan, column) for name, column in _means(by_label).items()}
        each = {
            f"{metric}:{name}": by_label[metric][:, i] for metric in METRICS for i, name in enumerate(names)
        }
        return means | each

    of_label = [_num_speakers(column, group) for column in target.T]
    scores = [*MEANS, *(f"{metric}:{name}" for metric in METRICS for name in names)]
    return Scored(
        speakers=speakers,
        values=values,
        folds=[] if fold is None else [fold_of_each(group, fold, len(speakers))],
        bounds=dict.fromkeys(scores, (0.0, 1.0)),
        num_speakers={f"{m}:{name}": n for m in METRICS for name, n in zip(names, of_label, strict=True)},
    )


def _num_speakers(target: Float[np.ndarray, " clips"], group: Int[np.ndarray, " clips"]) -> int:
    """The number of speakers behind a label's AUC: speakers with clips of its rarer kind, or all labelled ones if there is one kind."""
    kinds = [len(np.unique(group[target == kind])) for kind in (0, 1)]
    return min(kinds) if all(kinds) else sum(kinds)


def roc(
    target: Float[np.ndarray, " clips"], predicted: Float[np.ndarray, " clips"]
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1), for one label.

    NaN targets are left out; the label must have both kinds of clips.
    """
    has_target = ~np.isnan(target)
    positive, negative = _by_value(
        target[has_target] == 1, predicted[has_target], np.ones((1, has_target.sum()), np.int64)
    )
    rates = [np.append(0, np.cumsum(counts[0, ::-1])) / counts.sum() for counts in (negative, positive)]
    return rates[0], rates[1]


def _why(row: Mapping[str, float | None]) -> str:
    if row["num_positive"]:
        return f"all {row['num_positive']} labelled clips are positive"
    return (
        f"none of {row['num_negative']} labelled clips is positive"
        if row["num_negative"]
        else "no labelled clips"
    )


def _metrics(
    target: Float[np.ndarray, "clips labels"],
    predicted: Float[np.ndarray, "clips labels"],
    group: Int[np.ndarray, " clips"],
    drawn: Shaped[np.ndarray, "samples groups"],
) -> dict[str, Float[np.ndarray, "samples labels"]]:
    """AUC, average precision and number of positives of each label per sample, in which a group counts as often as drawn."""
    shape = (len(drawn), target.shape[1])
    by_metric = {name: np.empty(shape) for name in (*METRICS, "num_positive")}
    for i in range(target.shape[1]):
        has_target = ~np.isnan(target[:, i])
        is_positive, values, groups = target[has_target, i] == 1, predicted[has_target, i], group[has_target]
        for rows in blocks(len(drawn), max(len(groups), 1)):
            counts = _by_value(is_positive, values, drawn[rows][:, groups])
            by_metric["auc"][rows, i] = _auc(*counts)
            by_metric["average_precision"][rows, i] = _average_precision(*counts)
            by_metric["num_positive"][rows, i] = counts[0].sum(1)
    return by_metric


def _by_value(
    is_positive: Bool[np.ndarray, " clips"],
    predicted: Float[np.ndarray, " clips"],
    weights: Shaped[np.ndarray, "samples clips"],
) -> tuple[Float[np.ndarray, "samples values"], Float[np.ndarray, "samples values"]]:
    """Weights of the positives and of the negatives at each distinct prediction, ascending."""
    assert not np.isnan(predicted).any()
    order = np.argsort(predicted, kind="stable")
    # Clips with the same prediction are one step of the curve: that is what makes ties count half.
    starts = np.flatnonzero(np.diff(predicted[order], prepend=np.nan) != 0)
    if len(starts) == 0:
        return np.zeros((len(weights), 0)), np.zeros((len(weights), 0))
    # Whole numbers below 2**53: the sums of floats are exact.
    ordered = weights[:, order].astype(np.float64)
    positive = np.add.reduceat(ordered * is_positive[order], starts, axis=1)
    return positive, np.add.reduceat(ordered, starts, axis=1) - positive


def _auc(
    positive: Float[np.ndarray, "samples values"], negative: Float[np.ndarray, "samples values"]
) -> Float[np.ndarray, " samples"]:
    """Mann and Whitney's U divided by the number of pairs; NaN without pairs."""
    twice_below = 2 * np.cumsum(negative, 1) - negative
    twice_u = np.einsum("sv,sv->s", positive, twice_below)
    return ratio(twice_u, 2 * positive.sum(1) * negative.sum(1))


def _average_precision(
    positive: Float[np.ndarray, "samples values"], negative: Float[np.ndarray, "samples values"]
) -> Float[np.ndarray, " samples"]:
    """Mean over the positives of the precision at their threshold; NaN where the AUC is NaN."""
    hits, misses = (np.cumsum(counts[:, ::-1], 1)[:, ::-1] for counts in (positive, negative))
    precision = np.divide(hits, hits + misses, out=np.zeros_like(hits), where=hits > 0)
    has_both = (positive.sum(1) > 0) & (negative.sum(1) > 0)
    total = np.einsum("sv,sv->s", positive, precision)
    return np.where(has_both, ratio(total, positive.sum(1)), np.nan)


def _means(
    by_label: dict[str, Float[np.ndarray, "samples labels"]],
) -> dict[str, Float[np.ndarray, " samples"]]:
    """Means over the labels that a sample defines; NaN where it defines none."""
    defined = ~np.isnan(by_label["auc"])
    weights = np.where(defined, by_label["num_positive"], 0)
    weighted = np.einsum("sl,sl->s", weights, np.where(defined, by_label["auc"], 0))
    return {
        "macro_auc": mean_of_defined(by_label["auc"]),
        "weighted_auc": ratio(weighted, weights.sum(1)),
        "macro_average_precision": mean_of_defined(by_label["average_precision"]),
    }
