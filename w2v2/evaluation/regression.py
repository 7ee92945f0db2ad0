"""Scores of predicted numbers from addable sums, of all clips and of samples of their speakers, and quadrants."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from w2v2.data.clip_columns import TextColumn
from w2v2.data.groups import Names, name_array, numbered
from w2v2.evaluation import classification
from w2v2.evaluation.bootstrap import Scored, Values, fold_of_each, mean_of_defined, plain, ratio
from w2v2.json_types import Json, JsonObject

METRICS = ("rmse", "mse", "r2", "pearson", "ccc")
BOUNDS = {
    "rmse": (0.0, np.inf),
    "mse": (0.0, np.inf),
    "r2": (-np.inf, 1.0),
    "pearson": (-1.0, 1.0),
    "ccc": (-1.0, 1.0),
}
QUADRANTS = ("Q1", "Q2", "Q3", "Q4")
"""Around the midpoints, as on the circumplex: both high; first low, second high; both low; first high."""
_ROUNDING = 1e-12


def sums(
    target: Float[np.ndarray, "clips targets"],
    predicted: Float[np.ndarray, "clips targets"],
    *,
    shift: Float[np.ndarray, " targets"],
) -> Float[np.ndarray, "targets 7"]:
    """Number of clips and sums of t, p, t t, p p, t p and (t - p)^2, where the target is not NaN.

    t and p are target and predicted less `shift`, which no score depends on beyond rounding: a number near
    the targets, such as their training mean, keeps the differences of large sums exact. Sums of disjoint
    sets of clips with the same shift add up to those of their union; `from_sums` takes the ratios once.
    """
    return _sums_by_group(target, predicted, np.zeros(len(target), np.int64), num_groups=1, shift=shift)[0]


def from_sums(sums: Float[np.ndarray, "targets 7"], names: Sequence[str]) -> dict[str, Any]:
    """RMSE, MSE, R2, Pearson's r and CCC of each target, and their means, as plain JSON values.

    CCC is Lin's concordance, 2 cov / (var t + var p + (mean t - mean p)^2), with population moments (Lin
    1989). R2, Pearson and CCC are None for a constant target or fewer than two clips, Pearson also for
    constant predictions, RMSE and MSE without clips; `undefined` says why. A mean is over the targets
    that define it.
    """
    ratios = _ratios(sums)
    targets = {
        name: {"num_clips": int(sums[i, 0])} | {metric: plain(ratios[metric][i]) for metric in METRICS}
        for i, name in enumerate(names)
    }
    return {
        "targets": targets,
        "mean": {name: plain(value[0]) for name, value in _means(ratios).items()},
        "undefined": {name: _why(row) for name, row in targets.items() if row["pearson"] is None},
    }


def scores(
    target: Float[np.ndarray, "clips targets"],
    predicted: Float[np.ndarray, "clips targets"],
    names: Sequence[str],
) -> dict[str, Json]:
    """The scores of `from_sums`, with the numbers of clips and of missing (NaN) targets."""
    tree = from_sums(sums(target, predicted, shift=_means_where_defined(target)), names)
    for name, num_missing in zip(names, np.isnan(target).sum(0), strict=True):
        tree["targets"][name]["num_missing"] = int(num_missing)
    return {"num_clips": len(target)} | tree


def by_speaker(
    target: Float[np.ndarray, "clips targets"],
    predicted: Float[np.ndarray, "clips targets"],
    speaker: Names,
    names: Sequence[str],
    *,
    fold: Int[np.ndarray, " clips"] | None = None,
) -> Scored:
    """The means and, as `ccc:<target>` and so on, each target's scores, of any sample of the speakers.

    A mean is NaN in a sample that lacks a target whose score all speakers together define. fold is each clip's fold,
    where each fold has a separate model.
    """
    speakers, group = numbered(speaker)
    sums = _sums_by_group(
        target, predicted, group, num_groups=len(speakers), shift=_means_where_defined(target)
    )
    whole = _ratios(sums.sum(0))

    def values(counts: Shaped[np.ndarray, "samples speakers"]) -> Values:
        ratios = _ratios(np.einsum("sg,gtk->stk", counts.astype(np.float64), sums, optimize=True))
        lacks = {m: (np.isnan(ratios[m]) & ~np.isnan(whole[m])).any(1) for m in METRICS}
        means = {name: np.where(lacks[name], np.nan, column) for name, column in _means(ratios).items()}
        return means | {f"{m}:{name}": ratios[m][:, i] for m in METRICS for i, name in enumerate(names)}

    of_target = [len(np.unique(group[~np.isnan(column)])) for column in target.T]
    suffixes = ["", *(f":{name}" for name in names)]
    return Scored(
        speakers=speakers,
        values=values,
        folds=[] if fold is None else [fold_of_each(group, fold, len(speakers))],
        bounds={f"{m}{of}": between for m, between in BOUNDS.items() for of in suffixes},
        num_speakers={f"{m}:{name}": n for m in METRICS for name, n in zip(names, of_target, strict=True)},
    )


def quadrants(
    target: Float[np.ndarray, "clips 2"],
    predicted: Float[np.ndarray, "clips 2"],
    names: Sequence[str],
    *,
    midpoints: Sequence[float],
) -> dict[str, Json]:
    """Scores of the quadrants around the midpoints as classes, over the clips with both targets.

    A value equal to its midpoint is high. `classes` names the quadrants, `meaning` describes them.
    """
    has_both = ~np.isnan(target).any(1)
    counts = classification.confusion(
        quadrant(target[has_both], midpoints), quadrant(predicted[has_both], midpoints), len(QUADRANTS)
    )
    first, second = names
    sides = (("high", "high"), ("low", "high"), ("low", "low"), ("high", "low"))
    return classification.scores(counts, QUADRANTS) | {
        "classes": list(QUADRANTS),
        "meaning": {q: f"{x} {first}, {y} {second}" for q, (x, y) in zip(QUADRANTS, sides, strict=True)},
        "midpoints": dict(zip(names, map(float, midpoints), strict=True)),
    }


def quadrants_by_speaker(
    target: Float[np.ndarray, "clips 2"],
    predicted: Float[np.ndarray, "clips 2"],
    speaker: Names,
    *,
    midpoints: Sequence[float],
    fold: Int[np.ndarray, " clips"] | None = None,
) -> Scored:
    """The scores of the quadrants as classes, of any sample of the speakers who have clips with both targets."""
    rows = np.flatnonzero(~np.isnan(target).any(1))
    return classification.by_speaker(
        quadrant(target[rows], midpoints),
        quadrant(predicted[rows], midpoints),
        TextColumn(name_array(speaker).take(pa.array(rows))),
        num_classes=len(QUADRANTS),
        fold=None if fold is None else fold[rows],
    )


def quadrant(values: Float[np.ndarray, "clips 2"], midpoints: Sequence[float]) -> Int[np.ndarray, " clips"]:
    """The index in QUADRANTS of each pair of values."""
    first, second = (values >= np.asarray(midpoints)).T
    return np.where(second, np.where(first, 0, 1), np.where(first, 3, 2))


def _why(row: JsonObject) -> str:
    if row["num_clips"] < 2:
        return f"fewer than 2 clips have a target ({row['num_clips']})"
    return "its target is constant" if row["ccc"] is None else "its predictions are constant (Pearson)"


def _means_where_defined(target: Float[np.ndarray, "clips targets"]) -> Float[np.ndarray, " targets"]:
    return np.nan_to_num(mean_of_defined(target.T))


def _sums_by_group(
    target: Float[np.ndarray, "clips targets"],
    predicted: Float[np.ndarray, "clips targets"],
    group: Int[np.ndarray, " clips"],
    *,
    num_groups: int,
    shift: Float[np.ndarray, " targets"],
) -> Float[np.ndarray, "groups targets 7"]:
    has_target = ~np.isnan(target)
    t = np.where(has_target, target.astype(np.float64) - shift, 0.0)
    p = np.where(has_target, predicted.astype(np.float64) - shift, 0.0)
    terms = np.stack([has_target.astype(np.float64), t, p, t * t, p * p, t * p, (t - p) ** 2], -1)
    totals = np.zeros((num_groups, *terms.shape[1:]))
    np.add.at(totals, group, terms)
    return totals


def _ratios(sums: Float[np.ndarray, "*sets targets 7"]) -> dict[str, Float[np.ndarray, "*sets targets"]]:
    """RMSE, MSE, R2, Pearson's r and CCC of each set of sums; NaN where undefined."""
    n = sums[..., 0]
    mean_t, mean_p, mean_tt, mean_pp, mean_tp, mse = (ratio(sums[..., k], n) for k in range(1, 7))
    var_t, var_p = _variance(mean_t, mean_tt), _variance(mean_p, mean_pp)
    covariance = mean_tp - mean_t * mean_p
    spread_t = np.where(n >= 2, var_t, 0.0)
    concordance = ratio(2 * covariance, var_t + var_p + (mean_t - mean_p) ** 2)
    return {
        "rmse": np.sqrt(mse),
        "mse": mse,
        "r2": 1 - ratio(mse, spread_t),
        # Rounding may take the ratio past 1 by its last digit.
        "pearson": np.clip(ratio(covariance, np.sqrt(spread_t * var_p)), -1, 1),
        "ccc": np.where(spread_t > 0, concordance, np.nan),
    }


def _variance(
    mean: Float[np.ndarray, "*shape"], mean_of_squares: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Population variance from sums; 0 where it is below their rounding error."""
    variance = mean_of_squares - mean**2
    return np.where(variance > _ROUNDING * mean_of_squares, variance, 0.0)


def _means(
    ratios: dict[str, Float[np.ndarray, "*sets targets"]],
) -> dict[str, Float[np.ndarray, " sets"]]:
    """Means over the targets that a set defines; NaN where it defines none."""
    return {name: mean_of_defined(np.atleast_2d(values)) for name, values in ratios.items()}
