"""A model's outputs as probabilities, in float64."""

import numpy as np
from jaxtyping import Float

from w2v2.config.data import TaskKind


def log_softmax(logits: Float[np.ndarray, "rows outputs"]) -> Float[np.ndarray, "rows outputs"]:
    """The log probabilities of each row."""
    wide = logits.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)


def probabilities(
    outputs: Float[np.ndarray, "clips outputs"], kind: TaskKind
) -> Float[np.ndarray, "clips outputs"]:
    """Predictions from outputs: softmax over classes, a sigmoid per label, values of a regression unchanged."""
    match kind:
        case "classes":
            return np.exp(log_softmax(outputs))
        case "multi_label":
            return np.exp(-np.logaddexp(0.0, -outputs.astype(np.float64)))
        case "regression":
            return outputs.astype(np.float64)
        case "transcript":
            raise AssertionError("transcripts are decoded, not rows of probabilities")
