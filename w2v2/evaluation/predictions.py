"""A model's outputs for clips as the rows of predictions.parquet."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped

from w2v2.config.data import TaskKind
from w2v2.data import manifest


def targets_of(clips: pa.Table, kind: TaskKind, names: Sequence[str]) -> Shaped[np.ndarray, "clips ..."]:
    """Numbers of classes (int64), or a row of labels or values for each clip (float32, NaN where missing)."""
    if kind == "classes":
        number = {name: index for index, name in enumerate(names)}
        return np.array([number[label] for label in clips["label"].to_pylist()], np.int64)
    columns = [clips[f"target_{name}"].to_numpy().astype(np.float32) for name in names]
    return np.stack(columns, axis=1)


def groups_of(found: manifest.Manifest, kind: TaskKind) -> tuple[tuple[str, ...], ...]:
    """The names of the outputs, head by head: all classes in one, or as the data groups its targets."""
    return (tuple(manifest.classes_of(found.clips)),) if kind == "classes" else found.groups


def predictions_table(
    clips: pa.Table,
    values: Float[np.ndarray, "clips outputs"],
    *,
    kind: TaskKind,
    names: Sequence[str],
    keep: Sequence[str],
) -> pa.Table:
    """One row per clip: the columns to keep, targets where they are known, and what the model says.

    values are probabilities of classes or labels, or values of a regression.
    """
    columns = {name: clips[name] for name in keep}
    if kind == "classes":
        if "label" in clips.column_names:
            columns["target"] = clips["label"]
        columns["predicted"] = pa.array([names[index] for index in values.argmax(1)], pa.string())
    else:
        known = [f"target_{name}" for name in names if f"target_{name}" in clips.column_names]
        columns |= {name: clips[name] for name in known}
    prefix = "pred" if kind == "regression" else "prob"
    found = {f"{prefix}_{name}": pa.array(values[:, index]) for index, name in enumerate(names)}
    return pa.table(columns | found)
