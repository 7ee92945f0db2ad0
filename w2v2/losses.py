"""Losses as sums and weights, so that parts of a batch add up to the whole."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def balanced_class_weights(targets: Int[np.ndarray, " clips"], num_classes: int) -> Float[Tensor, " classes"]:
    """N / (classes present * n_class), as scikit-learn's 'balanced'; 0 for a class without clips."""
    counts = np.bincount(targets, minlength=num_classes)
    weights = np.divide(
        len(targets), counts * np.count_nonzero(counts), where=counts > 0, out=np.zeros(num_classes)
    )
    return torch.tensor(weights, dtype=torch.float32)


def cross_entropy_sum(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"],
    *,
    class_weights: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Weighted cross entropies in nats, summed over the batch; divide by the sum of the targets' weights."""
    return nn.functional.cross_entropy(
        logits.float(), targets, weight=class_weights, label_smoothing=label_smoothing, reduction="sum"
    )
