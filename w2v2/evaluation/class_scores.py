"""Precision, recall and F1 of each class with their 95 % intervals, from addable confusion matrices."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int, Shaped

from w2v2.data.groups import numbered
from w2v2.data.targets import class_numbers
from w2v2.evaluation.bootstrap import Interval, Scored, Values, blocks, fold_of_each, intervals, ratio
from w2v2.evaluation.classification import confusions

CLASS_METRICS = ("precision", "recall", "f1")


def class_intervals(
    predictions: pa.Table, classes: Sequence[str], *, seed: int
) -> dict[str, dict[str, Interval]]:
    """Precision, recall and F1 of each class, by class and metric, with intervals as bootstrap.intervals has them.

    predictions has speaker, target, predicted and, for cross-validation, fold. The interval of a precision is over the
    speakers for whom the class was predicted, the interval of a recall over the speakers with clips of the class; it is
    undefined for fewer than five speakers.
    """
    target, predicted = (class_numbers(predictions[column], classes) for column in ("target", "predicted"))
    speakers, group = numbered(predictions["speaker"])
    counts = confusions(target, predicted, group, num_classes=len(classes), num_groups=len(speakers))
    folds = []
    if "fold" in predictions.column_names:
        folds.append(fold_of_each(group, predictions["fold"].to_numpy(), len(speakers)))
    by_name = intervals(_scored(counts, speakers, folds), seed=seed)
    return {
        name: {metric: by_name[f"{metric}:{place}"] for metric in CLASS_METRICS}
        for place, name in enumerate(classes)
    }


def _scored(
    counts: Int[np.ndarray, "speakers classes classes"],
    speakers: Shaped[np.ndarray, " speakers"],
    folds: Sequence[Int[np.ndarray, " speakers"]],
) -> Scored:
    """The scores of any sample of the speakers, named metric:number of the class."""
    num_classes = counts.shape[1]
    hits = np.einsum("scc->sc", counts)
    columns = np.concatenate([hits, counts.sum(2), counts.sum(1)], axis=1).astype(np.float64)

    def values(samples: Shaped[np.ndarray, "samples speakers"]) -> Values:
        parts = [samples[rows].astype(np.float64) @ columns for rows in blocks(len(samples), 3 * num_classes)]
        hit, of_target, of_predicted = np.split(np.concatenate(parts), 3, axis=1)
        by_metric = {
            "precision": ratio(hit, of_predicted),
            "recall": ratio(hit, of_target),
            "f1": ratio(2 * hit, of_target + of_predicted),
        }
        return {
            f"{metric}:{place}": scores[:, place]
            for metric, scores in by_metric.items()
            for place in range(num_classes)
        }

    of_target, of_predicted = counts.sum(2) > 0, counts.sum(1) > 0
    present = {"precision": of_predicted, "recall": of_target, "f1": of_target | of_predicted}
    num_speakers = {
        f"{metric}:{place}": int(rows[:, place].sum())
        for metric, rows in present.items()
        for place in range(num_classes)
    }
    bounds = dict.fromkeys(num_speakers, (0.0, 1.0))
    return Scored(speakers=speakers, values=values, folds=folds, bounds=bounds, num_speakers=num_speakers)
