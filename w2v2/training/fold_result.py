"""Results of a training: its learning curve, a fold's held-out predictions, and divergence as an error."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


class DivergenceError(ArithmeticError):
    """The loss is not finite any more; the message names the step."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One point of a learning curve; all of it but val_loss is measured on training clips."""

    epoch: int
    train_loss: float
    train_uar: float | None
    """None for tasks without classes."""
    learning_rate: float
    val_loss: float | None = None
    """Of the val split, where there is one."""


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """What one fold of one trial leaves: held-out predictions and how the training went."""

    fold: int
    clip_ids: list[str]
    targets: Int[np.ndarray, " clips"]
    probabilities: Float[np.ndarray, "clips classes"]
    loss: float
    """Mean cross entropy of the held-out clips, in nats."""
    num_train: int
    seconds: float
    curve: list[Epoch]
