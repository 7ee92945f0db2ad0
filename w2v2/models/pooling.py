"""Pooling of frames to one vector per clip, over the clip's frames alone and not its padding."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from w2v2.models.device import to_device

Pooling = Literal["mean", "sum", "max", "mean+std", "attention", "attentive_statistics", "none"]
NUM_HIDDEN = 128
"""Hidden units of the scores of AttentiveStatistics, as in ECAPA-TDNN (Desplanques et al. 2020)."""


def frame_mask(num_frames: Int[Tensor, " batch"], length: int) -> Bool[Tensor, "batch frames"]:
    """True on the first num_frames of each row of `length` frames."""
    return torch.arange(length, device=num_frames.device) < num_frames[:, None]


def pool(
    states: Float[Tensor, "batch frames *dims"], num_frames: Int[Tensor, " batch"], pooling: Pooling
) -> Float[Tensor, "batch ..."]:
    """Pooled vectors in float32; mean+std concatenates both along the last axis (population std, at least 1e-5)."""
    extra = (1,) * (states.ndim - 2)
    num_frames = to_device(num_frames, states.device)
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
            return torch.cat([mean, _root(variance)], dim=-1)
        case "attention" | "attentive_statistics":
            raise AssertionError(f"{pooling} pooling has weights: use weighted_pool")
        case "none":
            raise AssertionError("frames are not pooled")


def pooled_dim(dim: int, pooling: Pooling) -> int:
    """Length of a pooled vector of frames of length `dim`."""
    return 2 * dim if pooling in ("mean+std", "attentive_statistics") else dim


def weighted_pool(dim: int, pooling: Pooling) -> nn.Module | None:
    """The module that pools frames of length `dim`; None for poolings without weights, which `pool` computes."""
    match pooling:
        case "attention":
            return AttentionPool(dim)
        case "attentive_statistics":
            return AttentiveStatistics(dim)
        case _:
            return None


def _root(variance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Standard deviations of at least 1e-5: the root has no gradient at 0, which a clip of one frame reaches."""
    return variance.clamp(min=1e-10).sqrt()


class AttentionPool(nn.Module):
    """Frames weighted by a learned softmax over each clip's own frames (Safari et al. 2020)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def forward(
        self, states: Float[Tensor, "batch frames dim"], num_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Weighted means; the weights of a clip's frames sum to one."""
        inside = frame_mask(to_device(num_frames, states.device), states.shape[1])
        weights = self.score(states)[..., 0].masked_fill(~inside, -torch.inf).softmax(dim=1)
        return torch.einsum("bt,btd->bd", weights, states)


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation of frames under learned weights (Okabe et al. 2018, arXiv:1803.10963, equations 2 to 6)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, NUM_HIDDEN)
        # Without the paper's scalar bias, which the softmax over frames cancels.
        self.score = nn.Linear(NUM_HIDDEN, 1, bias=False)

    def forward(
        self, states: Float[Tensor, "batch frames dim"], num_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch twice_dim"]:
        """Weighted means and, after them, weighted standard deviations, in float32; weights of a clip's frames sum to one."""
        inside = frame_mask(to_device(num_frames, states.device), states.shape[1])
        scores = self.score(self.hidden(states).tanh())[..., 0].float()
        weights = scores.masked_fill(~inside, -torch.inf).softmax(dim=1)[..., None]
        states = states.float()
        mean = (weights * states).sum(1)
        variance = (weights * (states - mean[:, None]).square()).sum(1)
        return torch.cat([mean, _root(variance)], dim=-1)


class LayerMix(nn.Module):
    """A learned convex mix of hidden states (softmax weights, as in SUPERB), equal at the start."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_states))

    def forward(self, states: Float[Tensor, "*batch states dim"]) -> Float[Tensor, "*batch dim"]:
        """The mixed state."""
        return torch.einsum("s,...sd->...d", self.logits.softmax(0), states)
