"""Results of a training: its learning curve, a fold's held-out predictions, and divergence as an error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from w2v2.models.probabilities import log_softmax


class DivergenceError(ArithmeticError):
    """Raised when the loss is no longer finite; the message names the step."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One point of a learning curve; all values except val_loss are measured on training clips."""

    epoch: int
    train_loss: float
    train_uar: float | None
    """None for tasks without classes."""
    learning_rate: float
    val_loss: float | None = None
    """The loss of the val split, where there is one."""


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """The result of one fold of one trial: held-out predictions and the learning curve."""

    fold: int
    clip_ids: Sequence[str]
    targets: Int[np.ndarray, " clips"]
    probabilities: Float[np.ndarray, "clips classes"]
    loss: float
    """Mean cross entropy of the held-out clips, in nats."""
    num_train: int
    seconds: float
    curve: list[Epoch]
    num_trained_parameters: int = 0
    """Numbers that were trained; 0 where an earlier version of w2v2 did not count them."""


@dataclass(frozen=True, kw_only=True)
class FoldTranscripts:
    """The result of one fold of one trial where the model writes text."""

    fold: int
    clip_ids: list[str]
    references: list[str]
    hypotheses: list[str]
    spaces: bool
    """Whether spaces separate words; without them no word error rate is defined."""
    loss: float
    """CTC loss of the held-out clips, in nats per character."""
    num_train: int
    seconds: float
    curve: list[Epoch]
    num_trained_parameters: int = 0
    """See FoldScore."""


FoldResult = FoldScore | FoldTranscripts


def fold_score(
    logits: Float[np.ndarray, "clips classes"],
    *,
    fold: int,
    clip_ids: Sequence[str],
    targets: Int[np.ndarray, " clips"],
    num_train: int,
    seconds: float,
    curve: list[Epoch],
    num_trained_parameters: int,
) -> FoldScore:
    """The score of a fold whose held-out clips have these logits; raises DivergenceError where their loss is not finite."""
    log_probabilities = log_softmax(logits)
    loss = -log_probabilities[np.arange(len(logits)), targets].mean()
    if not np.isfinite(loss):
        raise DivergenceError(f"the loss of held-out fold {fold} is {loss}")
    return FoldScore(
        fold=fold,
        clip_ids=clip_ids,
        targets=targets,
        probabilities=np.exp(log_probabilities),
        loss=float(loss),
        num_train=num_train,
        seconds=seconds,
        curve=curve,
        num_trained_parameters=num_trained_parameters,
    )
