"""AdamW over a model's trained parameters."""

import math

import torch
from torch import nn

from w2v2.config.model import OptimConfig

LATE_FRACTION = 0.7
"""Where 'late' begins: the last 30 % of training."""
NUM_CYCLES = 5
"""Cycles of triangular2 over the steps after warm-up."""


def learning_rate_scale(step: int, *, num_steps: int, optim: OptimConfig) -> float:
    """Factor in [0, 1] on the peak learning rate at `step` of `num_steps`, counted from 0.

    Warm-up rises linearly and reaches 1 at its end; the schedule covers the steps after it.
    """
    warmup_steps = round(optim.warmup_fraction * num_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    match optim.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        case "triangular2":
            return _triangular2(progress * NUM_CYCLES)
        case "late_decay":
            done = step / num_steps
            return 1.0 if done < LATE_FRACTION else (1.0 - done) / (1.0 - LATE_FRACTION)


def _triangular2(cycles: float) -> float:
    """Triangles from 0 to a peak that halves every cycle (Smith 2017, arXiv:1506.01186)."""
    number, position = divmod(cycles, 1.0)
    return (1.0 - abs(2.0 * position - 1.0)) / 2.0**number


def batch_size_at(epoch: int, *, num_epochs: int, optim: OptimConfig) -> int:
    """Clips per optimizer step in `epoch` (from 0): larger late, where late_batch_factor asks for it."""
    late = epoch >= math.ceil(LATE_FRACTION * num_epochs)
    return optim.batch_size * (optim.late_batch_factor if late else 1)


def make_optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); biases, normalisation weights and other vectors do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=optim.learning_rate,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        amsgrad=optim.amsgrad,
        fused=True,
    )
