"""The processes that train one model together."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes that train one model together; this one is `rank` of `size`."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Sums over all processes; ratios are computed afterwards, from the sums."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def share(self, whole: Int[np.ndarray, " clips"]) -> Int[np.ndarray, " share"]:
        """This process's part of some clips."""
        return whole[self.rank :: self.size]

    def whole(self, share: Shaped[Tensor, "share ..."], num_clips: int) -> Shaped[Tensor, "clips ..."]:
        """The parts of all processes in the order of the clips; gradients flow only into this process's part."""
        if self.size == 1:
            return share
        rows = torch.zeros((num_clips, *share.shape[1:]), dtype=share.dtype, device=share.device)
        rows[self.rank :: self.size] = share.detach()
        torch.distributed.all_reduce(rows)
        rows[self.rank :: self.size] = share
        return rows

    def states(self, state: State) -> list[State]:
        """The state of every process, in the order of their ranks; each passes its own."""
        if self.size == 1:
            return [state]
        states = [state] * self.size
        torch.distributed.all_gather_object(states, state)
        return states
