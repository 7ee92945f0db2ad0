"""A model's outputs for clips as the rows of predictions.parquet."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from w2v2.config.data import TaskKind
from w2v2.models.decoding import Transcript


def predictions_table(
    clips: pa.Table,
    values: Float[np.ndarray, "clips outputs"],
    *,
    kind: TaskKind,
    names: Sequence[str],
    keep: Sequence[str],
) -> pa.Table:
    """One row per clip: the columns to keep, targets if the clips have them, and the model's outputs.

    values are probabilities of classes or labels, or values of a regression.
    """
    if kind == "transcript":
        raise AssertionError("transcripts have a table of their own: transcripts_table")
    columns = {name: clips[name] for name in keep}
    if kind == "classes":
        if "label" in clips.column_names:
            columns["target"] = clips["label"]
        columns["predicted"] = pa.array([names[index] for index in values.argmax(1)], pa.string())
    else:
        targets = [f"target_{name}" for name in names if f"target_{name}" in clips.column_names]
        columns |= {name: clips[name] for name in targets}
    prefix = "pred" if kind == "regression" else "prob"
    outputs = {f"{prefix}_{name}": pa.array(values[:, index]) for index, name in enumerate(names)}
    return pa.table(columns | outputs)


def transcripts_table(clips: pa.Table, transcripts: Sequence[Transcript], *, keep: Sequence[str]) -> pa.Table:
    """One row per clip: the columns to keep, the reference, the model's transcript and its confidence."""
    columns = {name: clips[name] for name in keep} | {"target": clips["reference"]}
    columns["predicted"] = pa.array([transcript.text for transcript in transcripts], pa.string())
    columns["confidence"] = pa.array([transcript.confidence for transcript in transcripts], pa.float64())
    return pa.table(columns)
