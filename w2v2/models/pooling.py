"""Frames to one vector per clip; only a clip's own frames count."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Pooling = Literal["mean", "sum", "max", "mean+std", "attention", "none"]


def frame_mask(num_frames: Int[Tensor, " batch"], length: int) -> Bool[Tensor, "batch frames"]:
    """True on the first num_frames of each row of `length` frames."""
    return torch.arange(length, device=num_frames.device) < num_frames[:, None]


def pool(
    states: Float[Tensor, "batch frames *dims"], num_frames: Int[Tensor, " batch"], pooling: Pooling
) -> Float[Tensor, "batch ..."]:
    """Pooled vectors in float32; mean+std concatenates both along the last axis (population std, at least 1e-5)."""
    extra = (1,) * (states.ndim - 2)
    inside = frame_mask(num_frames, states.shape[1]).view(*states.shape[:2], *extra)
    count = num_frames.view(-1, *extra)
    states = states.float()  # a sum of frames in bfloat16 is off by up to 0.4 %
    match pooling:
        case "sum":
            return (states * inside).sum(1)
        case "mean":
            return (states * inside).sum(1) / count
        case "max":
            return states.masked_fill(~inside, -torch.inf).amax(1)
        case "mean+std":
            mean = (states * inside).sum(1) / count
            variance = ((states - mean[:, None]).square() * inside).sum(1) / count
            # The root has no gradient at 0, which a clip of one frame reaches.
            return torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=-1)
        case "attention":
            raise AssertionError("attention pooling has weights: use AttentionPool")
        case "none":
            raise AssertionError("frames are not pooled")


def pooled_dim(dim: int, pooling: Pooling) -> int:
    """Length of a pooled vector of frames of length `dim`."""
    return 2 * dim if pooling == "mean+std" else dim


class AttentionPool(nn.Module):
    """Frames weighted by a learned softmax over each clip's own frames (Safari et al. 2020)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def forward(
        self, states: Float[Tensor, "batch frames dim"], num_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Weighted means; the weights of a clip's frames sum to one."""
        inside = frame_mask(num_frames, states.shape[1])
        weights = self.score(states)[..., 0].masked_fill(~inside, -torch.inf).softmax(dim=1)
        return torch.einsum("bt,btd->bd", weights, states)


class LayerMix(nn.Module):
    """A learned convex mix of hidden states (softmax weights, as in SUPERB), equal at the start."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_states))

    def forward(self, states: Float[Tensor, "*batch states dim"]) -> Float[Tensor, "*batch dim"]:
        """The mixed state."""
        return torch.einsum("s,...sd->...d", self.logits.softmax(0), states)
