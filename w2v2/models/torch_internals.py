"""Private functions of torch, which a new version may change; tests/test_internals.py says what it has changed.

For heads of a few thousand weights, and for frames packed clip after clip, the public functions take several times as
long as the private ones that they call.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

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

    first and second are the moments, largest is the maximum of the second moment (used with amsgrad). steps are the
    numbers of steps taken; parameters may share one.
    """
    for step in {id(step): step for step in steps}.values():
        step.add_(1)
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
    """The gradient of a loss with respect to logits, from its gradient with respect to their log_softmax, as autograd computes it."""
    backward = torch.ops.aten._log_softmax_backward_data
    return backward(gradient, log_probabilities, -1, log_probabilities.dtype)


def copy_each(targets: Sequence[Shaped[Tensor, "..."]], sources: Sequence[Shaped[Tensor, "..."]]) -> None:
    """Copy each source to its target, of the same shape and perhaps another type, by one operation on a GPU."""
    torch._foreach_copy_(list(targets), list(sources))


def direct_parameters(module: nn.Module) -> dict[str, Shaped[Tensor, "..."] | None]:
    """The parameters of a module itself by name, without parameters of modules inside it; assignments replace them unchecked."""
    return module._parameters  # type: ignore[return-value]


def num_changes(weight: Shaped[Tensor, "..."]) -> int:
    """How often the weight was changed in place; a fused optimizer's steps do not count."""
    return weight._version


def flash_attention(
    query: Float[Tensor, "total heads dim"],
    key: Float[Tensor, "total heads dim"],
    value: Float[Tensor, "total heads dim"],
    *,
    bounds: Int[Tensor, " clips_and_one"],
    longest: int,
    dropout: float,
) -> Float[Tensor, "total heads dim"]:
    """Attention of each clip's frames to each other, on a GPU in 16 bits.

    bounds has the first frame of each clip and the end of the last one, longest is the most frames of a clip.
    torch.nn.attention.varlen computes the same, but through an operator in Python, and without dropout.
    """
    attended: Tensor = torch.ops.aten._flash_attention_forward.default(
        query, key, value, bounds, bounds, longest, longest, dropout, False, False
    )[0]
    return attended


def has_onednn_linear() -> bool:
    """Whether this torch has the operator of onednn_linear."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(
    rows: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """The rows times the transposed weights, plus the bias, by oneDNN on the CPU; has no gradient."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
