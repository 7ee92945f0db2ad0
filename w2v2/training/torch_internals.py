"""What torch does not promise from one version to the next; tests/test_internals.py says what a new one has changed.

For heads of a few thousand weights the public functions take several times as long as what they call.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from w2v2.config.model import OptimConfig


def fused_adamw(
    parameters: Sequence[Float[Tensor, "..."]],
    gradients: Sequence[Float[Tensor, "..."]],
    *,
    first: Sequence[Float[Tensor, "..."]],
    second: Sequence[Float[Tensor, "..."]],
    largest: Sequence[Float[Tensor, "..."]],
    steps: Sequence[Float[Tensor, ""]],
    optim: OptimConfig,
    learning_rate: float,
) -> None:
    """Take a step without weight decay, in place, as torch.optim.AdamW with fused=True does.

    first, second and largest are the moments and the maximum of the second one (used with amsgrad), steps counts.
    """
    torch._foreach_add_(list(steps), 1)
    torch._fused_adamw_(
        list(parameters),
        list(gradients),
        list(first),
        list(second),
        list(largest) if optim.amsgrad else [],
        list(steps),
        lr=learning_rate,
        beta1=optim.beta1,
        beta2=optim.beta2,
        weight_decay=0.0,
        eps=optim.eps,
        amsgrad=optim.amsgrad,
        maximize=False,
    )


def log_softmax_gradient(
    gradient: Float[Tensor, "*rows classes"], log_probabilities: Float[Tensor, "*rows classes"]
) -> Float[Tensor, "*rows classes"]:
    """The gradient at the logits, as autograd has it, of a loss with this gradient at their log_softmax."""
    backward = torch.ops.aten._log_softmax_backward_data
    return backward(gradient, log_probabilities, -1, log_probabilities.dtype)
