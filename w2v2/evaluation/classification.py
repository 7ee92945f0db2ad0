"""Scores of a classifier from addable confusion matrices, of all clips and of samples of their speakers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int, Shaped

from w2v2.data.groups import Names, numbered
from w2v2.evaluation.bootstrap import Scored, Values, blocks, fold_of_each, mean_of_defined, plain, ratio
from w2v2.json_types import Json

METRICS = ("uar", "accuracy", "macro_f1")


def confusion(
    target: Int[np.ndarray, " clips"], predicted: Int[np.ndarray, " clips"], num_classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Confusion matrix, rows target and columns predicted, as int64 counts.

    Matrices of disjoint sets of clips add up to the matrix of their union.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
    array([[1, 0],
           [1, 1]])
    """
    group = np.zeros(len(target), np.int64)
    return confusions(target, predicted, group, num_classes=num_classes, num_groups=1)[0]


def rates(confusion: Int[np.ndarray, "classes classes"]) -> dict[str, float | None]:
    """Accuracy, UAR and macro F1 of a confusion matrix, as `scores` defines them; None where undefined."""
    return {name: plain(value[0]) for name, value in metrics_of(confusion[None]).items()}


def scores(confusion: Int[np.ndarray, "classes classes"], classes: Sequence[str]) -> dict[str, Json]:
    """Accuracy, UAR, macro F1 and recalls of a confusion matrix, as plain JSON values.

    `uar` is the mean recall over the classes that have clips. `macro_f1` is the mean of
    2 TP / (2 TP + FP + FN) over the classes that are a target or a prediction of any clip (scikit-learn's
    macro average). What is undefined (no clips; the recall of a class without clips) is None.
    `absent` lists the classes without clips, `never_predicted` those without predictions.
    """
    assert len(classes) == len(confusion), (len(classes), confusion.shape)
    recalls = _recalls(confusion[None])[0]
    return {
        "num_clips": int(confusion.sum()),
        **rates(confusion),
        "recall": {name: plain(value) for name, value in zip(classes, recalls, strict=True)},
        "never_predicted": [name for name, n in zip(classes, confusion.sum(0), strict=True) if n == 0],
        "absent": [name for name, n in zip(classes, confusion.sum(1), strict=True) if n == 0],
        "confusion": confusion.tolist(),
    }


def by_speaker(
    target: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"],
    speaker: Names,
    *,
    num_classes: int,
    fold: Sequence[int] | Int[np.ndarray, " clips"] | None = None,
    model: Int[np.ndarray, " clips"] | None = None,
) -> Scored:
    """Accuracy, UAR and macro F1 of any sample of the speakers.

    fold is each clip's fold in cross-validation, model the number of the model that predicts it, where several do.
    """
    speakers, group = numbered(speaker)
    num_models = 1 if model is None else int(model.max(initial=0)) + 1
    of_each = group if model is None else model * len(speakers) + group
    num_groups = num_models * len(speakers)
    counts = confusions(target, predicted, of_each, num_classes=num_classes, num_groups=num_groups)
    folds = [] if fold is None else [fold_of_each(group, np.asarray(fold, np.int64), len(speakers))]
    return scored_mixture(counts.reshape(num_models, -1, *counts.shape[1:]), speakers, folds=folds)


def scored(
    confusions: Shaped[np.ndarray, "speakers classes classes"],
    speakers: Shaped[np.ndarray, " speakers"],
    *,
    folds: Sequence[Int[np.ndarray, " speakers"]] = (),
) -> Scored:
    """Accuracy, UAR and macro F1 of any sample of speakers with these confusion matrices.

    Counts may be fractions (`scored_mixture`). UAR and macro F1 are NaN in a sample that lacks a class which all
    speakers together have: over fewer classes they would be other scores.
    """
    num_classes = confusions.shape[1]
    flat = confusions.reshape(len(speakers), num_classes**2).astype(np.float64)
    total = confusions.sum(0)[None]

    def values(counts: Shaped[np.ndarray, "samples speakers"]) -> Values:
        sampled: dict[str, np.ndarray] = {name: np.empty(len(counts)) for name in METRICS}
        for rows in blocks(len(counts), num_classes**2):
            summed = (counts[rows].astype(np.float64) @ flat).reshape(-1, num_classes, num_classes)
            lacks_target = ((total.sum(-1) > 0) & (summed.sum(-1) == 0)).any(-1)
            lacks_any = lacks_target | ((_occurrences(total) > 0) & (_occurrences(summed) == 0)).any(-1)
            of_sample = metrics_of(summed)
            sampled["accuracy"][rows] = of_sample["accuracy"]
            sampled["uar"][rows] = np.where(lacks_target, np.nan, of_sample["uar"])
            sampled["macro_f1"][rows] = np.where(lacks_any, np.nan, of_sample["macro_f1"])
        return sampled

    return Scored(speakers=speakers, values=values, folds=folds, bounds=dict.fromkeys(METRICS, (0.0, 1.0)))


def scored_mixture(
    confusions: Shaped[np.ndarray, "models speakers classes classes"],
    speakers: Shaped[np.ndarray, " speakers"],
    *,
    folds: Sequence[Int[np.ndarray, " speakers"]] = (),
) -> Scored:
    """The scores of clips that several models predict, each model's counts multiplied by its share of the clips.

    Accuracy and UAR of the sum of the matrices equal the mean over the models. Macro F1 of the sum does not: two models
    that each predict only one of two classes have 1/3 each, and the sum of their matrices has 1/2. So the F1 of a
    class is the mean of the models', weighted by their shares of the class's clips.
    """
    of_sum = scored(confusions.sum(0), speakers, folds=folds)
    if len(confusions) == 1:
        return of_sum
    num_models, num_classes = len(confusions), confusions.shape[2]
    flat = confusions.transpose(1, 0, 2, 3).reshape(len(speakers), -1).astype(np.float64)

    def values(counts: Shaped[np.ndarray, "samples speakers"]) -> Values:
        sampled = of_sum.values(counts)
        f1 = np.empty(len(counts))
        for rows in blocks(len(counts), num_models * num_classes**2):
            summed = counts[rows].astype(np.float64) @ flat
            f1[rows] = _mean_f1(summed.reshape(-1, num_models, num_classes, num_classes))
        return {**sampled, "macro_f1": np.where(np.isnan(sampled["macro_f1"]), np.nan, f1)}

    return replace(of_sum, values=values)


def _mean_f1(
    confusions: Float[np.ndarray, "samples models classes classes"],
) -> Float[np.ndarray, " samples"]:
    """Macro F1 of each sample; the F1 of a class is the mean over models, weighted by their shares of its clips."""
    hits, targets = np.einsum("smii->smi", confusions), confusions.sum(-1)
    f1 = np.nan_to_num(ratio(2 * hits, targets + confusions.sum(-2)))
    # A class without clips that is predicted has 0.
    of_class = np.nan_to_num(ratio((targets * f1).sum(1), targets.sum(1)))
    occurs = _occurrences(confusions.sum(1)) > 0
    return mean_of_defined(np.where(occurs, of_class, np.nan))


def confusions(
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


def metrics_of(
    confusions: Shaped[np.ndarray, "matrices classes classes"],
) -> dict[str, Float[np.ndarray, " matrices"]]:
    """Accuracy, UAR and macro F1 of each confusion matrix; NaN where it has no clips."""
    hits = np.einsum("mii->mi", confusions)
    return {
        "accuracy": ratio(hits.sum(-1), confusions.sum((-1, -2))),
        "uar": mean_of_defined(_recalls(confusions)),
        "macro_f1": mean_of_defined(ratio(2 * hits, _occurrences(confusions))),
    }


def _occurrences(
    confusions: Shaped[np.ndarray, "matrices classes classes"],
) -> Shaped[np.ndarray, "matrices classes"]:
    """Number of targets plus predictions of each class."""
    return confusions.sum(-1) + confusions.sum(-2)


def _recalls(
    confusions: Shaped[np.ndarray, "matrices classes classes"],
) -> Float[np.ndarray, "matrices classes"]:
    """Fraction of each class's clips that were predicted right; NaN for a class without clips."""
    return ratio(np.einsum("mii->mi", confusions), confusions.sum(-1))
