"""Scores of each fold of a cross-validation, with intervals over the fold's speakers, and their mean and spread."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.data import TaskKind
from w2v2.evaluation import bootstrap, classification, recognition
from w2v2.evaluation.bootstrap import Interval
from w2v2.evaluation.scores import scored


def fold_intervals(
    predictions: pa.Table, kind: TaskKind, names: Sequence[str], *, seed: int, spaces: bool = True
) -> list[dict[str, Interval]]:
    """The scores of each fold's clips with 95 % intervals over the fold's speakers, in the order of the folds.

    They are undefined for folds of fewer than five speakers. spaces: whether spaces separate the words of transcripts.
    """
    parts = [
        predictions.filter(pc.equal(predictions["fold"], fold))
        for fold in sorted(predictions["fold"].unique().to_pylist())
    ]
    return [bootstrap.intervals(scored(part, kind, names, spaces=spaces), seed=seed) for part in parts]


def over_folds(
    rows: Sequence[Mapping[str, Any]], intervals: Sequence[Mapping[str, Interval]]
) -> dict[str, dict[str, Any]]:
    """For each metric the values of the folds in order, their intervals, their mean and their standard deviation (n - 1).

    rows are the folds' scores, intervals what fold_intervals returned; `undefined` says why a fold has no interval.
    """
    by_metric = {}
    for name in (name for name in (*classification.METRICS, *recognition.METRICS) if name in rows[0]):
        values = [row[name] for row in rows]
        defined = [value for value in values if value is not None]
        spread = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
        by_metric[name] = {
            "mean": float(np.mean(defined)) if defined else None,
            "std": spread,
            "values": values,
            "intervals": [fold[name].between if name in fold else None for fold in intervals],
            "undefined": [fold[name].undefined if name in fold else "" for fold in intervals],
        }
    return by_metric
