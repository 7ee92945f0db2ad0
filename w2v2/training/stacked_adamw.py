"""AdamW for the heads of one trial on all folds, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from w2v2.config.model import OptimConfig
from w2v2.models.torch_internals import fused_adamw

WIDEST_VECTOR = 16
"""The most numbers that a vector instruction of a processor takes at once."""


@dataclass(frozen=True)
class _Part:
    """A parameter of one fold, or of all folds, and AdamW's state for it."""

    tensor: Tensor
    decays: bool
    first: Tensor
    second: Tensor
    largest: Tensor
    step: Tensor

    @classmethod
    def of(cls, tensor: Tensor, *, decays: bool, step: Tensor) -> "_Part":
        """A part at its start, whose steps are counted in step."""
        first, second, largest = (torch.zeros_like(tensor) for _ in range(3))
        return cls(tensor, decays, first, second, largest, step)


class StackedAdamW:
    """`optimizer.make_optimizer`'s AdamW for one trial's heads on all folds.

    even: every fold takes every step. Then folds take steps together wherever that changes no bit, which is where a
    fold's part begins at a multiple of the vector width.
    """

    def __init__(self, parameters: Sequence[Tensor], trial: int, optim: OptimConfig, *, even: bool) -> None:
        self._optim = optim
        of_trial = [parameter[trial] for parameter in parameters]
        self._whole = [even and parameter[0].numel() % WIDEST_VECTOR == 0 for parameter in of_trial]
        self._even = even
        # Weights decay, vectors (biases, a mix of layers) do not.
        num_folds = len(of_trial[0])
        # Parts that take every step together share one count: to count takes as long as to update a small part.
        counts = [torch.tensor(0.0)] * num_folds if even else [torch.tensor(0.0) for _ in range(num_folds)]
        self._parts = [
            [
                _Part.of(part, decays=parameter.ndim > 2, step=count)
                for part, count in zip([parameter] if whole else parameter.unbind(0), counts, strict=False)
            ]
            for parameter, whole in zip(of_trial, self._whole, strict=True)
        ]

    def __call__(
        self, gradients: Sequence[Float[Tensor, "folds ..."]], folds: list[int], rate: float
    ) -> None:
        """One step of these folds; gradients of other folds are ignored."""
        if self._optim.clip_norm:
            self._clip(gradients, folds)
        parts: list[_Part] = []
        slopes: list[Tensor] = []
        for of_parameter, whole, gradient in zip(self._parts, self._whole, gradients, strict=True):
            parts += of_parameter if self._even else [of_parameter[fold] for fold in folds]
            by_fold = [gradient] if whole else gradient.unbind(0)
            slopes += by_fold if self._even else [by_fold[fold] for fold in folds]
        for part in parts:
            if part.decays:
                part.tensor.mul_(1 - rate * self._optim.weight_decay)
        fused_adamw(
            [part.tensor for part in parts],
            slopes,
            first=[part.first for part in parts],
            second=[part.second for part in parts],
            largest=[part.largest for part in parts],
            steps=[part.step for part in parts],
            optim=self._optim,
            learning_rate=rate,
        )

    def _clip(self, gradients: Sequence[Tensor], folds: list[int]) -> None:
        for fold in folds:
            of_head = [gradient[fold] for gradient in gradients]
            total = nn.utils.get_total_norm(of_head)
            for gradient in of_head:
                gradient.mul_((self._optim.clip_norm / (total + 1e-6)).clamp(max=1.0))
