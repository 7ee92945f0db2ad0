"""Labels of clips as arrays to train models on and to score them against."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from w2v2.config.data import TaskKind
from w2v2.data import manifest
from w2v2.storage.mapped_tables import whole


def class_numbers(
    labels: Iterable[str] | pa.ChunkedArray, classes: Sequence[str]
) -> Int[np.ndarray, " clips"]:
    """The position of each label among the classes, int64; KeyError for a label that is no class.

    >>> class_numbers(["sad", "calm"], ["angry", "calm", "sad"])
    array([2, 1])
    """
    number = {name: index for index, name in enumerate(classes)}
    if isinstance(labels, pa.ChunkedArray):  # looks each different label up once
        encoded = pc.dictionary_encode(whole(labels))
        return class_numbers(encoded.dictionary.to_pylist(), classes)[encoded.indices.to_numpy()]
    return np.array([number[label] for label in labels], np.int64)


def target_array(
    clips: pa.Table, kind: TaskKind, names: Sequence[str]
) -> Int[np.ndarray, " clips"] | Float[np.ndarray, "clips names"]:
    """Numbers of classes (int64), or a row of labels or values for each clip (float32, NaN where missing)."""
    if kind == "classes":
        return class_numbers(clips["label"], names)
    columns = [clips[f"target_{name}"].to_numpy().astype(np.float32) for name in names]
    return np.stack(columns, axis=1)


def output_groups(data: manifest.Manifest, kind: TaskKind) -> tuple[tuple[str, ...], ...]:
    """The names of the outputs, head by head: one head for all classes, or the data's groups of targets."""
    return (tuple(manifest.classes_of(data.clips)),) if kind == "classes" else data.groups
