"""How far a training has come: its step, and the sums of the present epoch, which its passes add to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from w2v2.evaluation import classification
from w2v2.json_types import JsonObject
from w2v2.training.fold_result import Epoch


@dataclass(kw_only=True)
class Position:
    """How far a training has come: its step, and the sums of the present epoch."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss: float = 0.0
    weight: float = 0.0
    confusion: list[list[int]] = field(default_factory=list)
    curve: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0

    @classmethod
    def restored(cls, state: JsonObject) -> "Position":
        """The position of a checkpoint."""
        return cls(**{**state, "curve": [Epoch(**point) for point in state["curve"]]})

    @classmethod
    def redistributed(cls, positions: Sequence["Position"], rank: int) -> "Position":
        """The position of a process after a change of their number: the first process gets the sums of all."""
        if rank:
            return replace(positions[0], loss=0.0, weight=0.0, confusion=[])
        counts = [np.array(position.confusion) for position in positions if position.confusion]
        return replace(
            positions[0],
            loss=math.fsum(position.loss for position in positions),
            weight=math.fsum(position.weight for position in positions),
            confusion=np.sum(counts, axis=0).tolist() if counts else [],
        )


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The numbers that a pass of the model adds to the sums of the epoch; a GPU may still be computing them."""

    loss: Float[Tensor, ""]
    weight: float
    predicted: Int[Tensor, " batch"] | None
    """The class of each clip, for tasks of classes."""
    targets: Shaped[Tensor, "batch ..."]
    num_outputs: int

    def count(self, at: Position) -> None:
        """Add the pass to the sums of a position."""
        at.loss += float(self.loss)
        at.weight += self.weight
        if self.predicted is not None:
            # A mixture counts as the clip with the larger share.
            target = self.targets if self.targets.ndim == 1 else self.targets.argmax(1)
            confusion = classification.confusion(
                target.numpy(), self.predicted.cpu().numpy(), self.num_outputs
            )
            at.confusion = (np.array(at.confusion) + confusion if at.confusion else confusion).tolist()
