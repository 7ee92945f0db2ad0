"""Parts of an encoder computed in bfloat16 throughout, where autocast would return to float32 at every normalisation.

On an H200 twelve layers of base take 0.7 of the time that autocast takes; torch.compile made neither faster.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from w2v2.models.torch_internals import copy_each, direct_parameters

FAMILIES = ("wav2vec2", "hubert", "unispeech", "unispeech-sat", "data2vec-audio")
"""Model types whose layers compute in a single number type, and whose attention is a function of transformers'
ALL_ATTENTION_FUNCTIONS."""


def computes_in_bfloat16(model: Any, device: torch.device) -> bool:
    """Whether a pass under autocast computes this model's projection and layers in bfloat16 throughout.

    Layers with weights that are computed, such as low-rank updates, or with adapters stay with autocast.
    """
    return (
        torch.is_autocast_enabled(device.type)
        and model.config.model_type in FAMILIES
        and not any(parametrize.is_parametrized(module) for module in model.encoder.layers.modules())
        and not any(getattr(layer, "adapter_layer", None) is not None for layer in model.encoder.layers)
    )


def in_bfloat16(module: nn.Module, *args: Any) -> Any:
    """The output of a module with its weights rounded to bfloat16; gradients reach the weights themselves.

    Tensors of floating-point numbers among the arguments are rounded, too.
    """
    with rounded_weights(module):
        return module(*(_rounded(argument) for argument in args))


@contextlib.contextmanager
def rounded_weights(module: nn.Module) -> Iterator[None]:
    """A block without autocast in which a module and those within it compute with weights rounded to bfloat16.

    All are rounded by one operation, and replaced in place: torch.func.functional_call takes twice as long as twelve layers.
    """
    places = [
        (owner, name, weight)
        for owner in module.modules()
        for name, weight in direct_parameters(owner).items()
        if weight is not None
    ]
    if not places:
        yield
        return
    of_bfloat16: Sequence[Any] = rounded([[weight] for _, _, weight in places])
    try:
        for (owner, name, _), weight in zip(places, of_bfloat16, strict=True):
            direct_parameters(owner)[name] = weight
        with torch.autocast(of_bfloat16[0].device.type, enabled=False):
            yield
    finally:
        for owner, name, weight in places:
            direct_parameters(owner)[name] = weight


def rounded(groups: Sequence[Sequence[Float[Tensor, "..."]]]) -> Sequence[Float[Tensor, "..."]]:
    """The tensors of each group joined along their first axis, in bfloat16; gradients reach the tensors themselves.

    All lie in one piece of memory and are copied by one operation on a GPU, so stacking takes none.
    """
    made: Sequence[Float[Tensor, ...]] = _Rounded.apply(
        [len(group) for group in groups], *itertools.chain(*groups)
    )
    return made


class _Rounded(torch.autograd.Function):
    """Tensors in bfloat16, stacked in groups; their gradients in the type of the tensors."""

    @staticmethod
    def forward(ctx: Any, sizes: Sequence[int], *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = weights[0].dtype
        remaining = iter(weights)
        groups = [list(itertools.islice(remaining, size)) for size in sizes]
        ctx.rows = [[len(weight) for weight in group] for group in groups]
        stacked = _empty(
            [(sum(map(len, group)), *group[0].shape[1:]) for group in groups], weights[0], torch.bfloat16
        )
        copy_each(_split(stacked, ctx.rows), weights)
        return tuple(stacked)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        parts = _split(gradients, ctx.rows)
        copies = _empty([part.shape for part in parts], parts[0], ctx.dtype)
        copy_each(copies, parts)
        return (None, *copies)


def _empty(shapes: Sequence[Sequence[int]], like: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Tensors of these shapes in one piece of memory."""
    sizes = [math.prod(shape) for shape in shapes]
    whole = torch.empty(sum(sizes), dtype=dtype, device=like.device)
    return [part.view(shape) for part, shape in zip(whole.split(sizes), shapes, strict=True)]


def _split(stacked: Sequence[Tensor], rows: Sequence[Sequence[int]]) -> list[Tensor]:
    parts: list[Tensor] = []
    for whole, of_group in zip(stacked, rows, strict=True):
        parts += [whole] if len(of_group) == 1 else whole.split(of_group)
    return parts


def _rounded(argument: Any) -> Any:
    is_float = isinstance(argument, Tensor) and argument.is_floating_point()
    return argument.to(torch.bfloat16) if is_float else argument
