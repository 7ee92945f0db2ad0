"""Linear layers that multiply with oneDNN on processors where MKL uses half of the vector width.

On CPUs torch multiplies float32 matrices with MKL, which uses AVX2 on AMD's processors even if they have AVX-512;
oneDNN, which torch uses for convolutions, uses AVX-512. On a Zen 5 that is 2.2 times the speed forwards and 1.8
times backwards. On processors with AVX2 alone neither was faster, so nothing is changed there.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from w2v2.models.torch_internals import has_onednn_linear, onednn_linear


@functools.cache
def onednn_is_faster() -> bool:
    """Whether MKL does not use the full vector width of this machine's CPU."""
    cpu = Path("/proc/cpuinfo")
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512"
        and has_onednn_linear()
        and cpu.exists()
        and "AuthenticAMD" in cpu.read_text()
    )


def use_fastest_linear(model: nn.Module) -> None:
    """Make the linear layers of a model use the faster library of this machine; their parameters stay unchanged."""
    if not onednn_is_faster():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear


class OneDnnLinear(nn.Linear):
    """nn.Linear that computes with oneDNN on the CPU in float32, and as usual elsewhere."""

    def forward(self, input: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The input times the weights, plus the bias."""
        plain = input.device.type == "cpu" and input.dtype == torch.float32 and input.dim() > 1
        if not plain or not input.numel() or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        rows = _Product.apply(input.flatten(0, -2), self.weight, self.bias)
        return rows.unflatten(0, input.shape[:-1])


def product(
    rows: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """The rows times the transposed weights, plus the bias, by the faster library of this machine; has no gradient."""
    if onednn_is_faster() and rows.device.type == "cpu" and rows.dtype == torch.float32:
        return onednn_linear(rows, weight, bias)
    return nn.functional.linear(rows, weight, bias)


class _Product(torch.autograd.Function):
    """The oneDNN product with its gradient, which torch's operator lacks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            onednn_linear(gradient, weight.t()) if of_x else None,
            onednn_linear(gradient.t(), x.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )
