"""Parts of an encoder computed in bfloat16 throughout, where autocast would return to float32 at every normalisation.

On an H200 twelve layers of base take 0.7 of the time that autocast takes; torch.compile made neither faster.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

FAMILIES = ("wav2vec2", "hubert", "unispeech", "unispeech-sat", "data2vec-audio")
"""Model types whose layers compute in one type of numbers, and attend through transformers' table of functions."""


def computes_in_bfloat16(model: Any, device: torch.device) -> bool:
    """Whether a pass under autocast computes this model's projection and layers in bfloat16 throughout.

    Layers with weights that are computed, such as low-rank updates, stay with autocast.
    """
    return (
        torch.is_autocast_enabled(device.type)
        and model.config.model_type in FAMILIES
        and not any(parametrize.is_parametrized(module) for module in model.encoder.layers.modules())
    )


def in_bfloat16(module: nn.Module, *args: Any) -> Any:
    """The output of a module with its weights rounded to bfloat16; gradients reach the weights themselves.

    Tensors of floating-point numbers among the arguments are rounded, too.
    """
    weights = {name: weight.to(torch.bfloat16) for name, weight in module.named_parameters()}
    rounded = tuple(_rounded(argument) for argument in args)
    device = next(iter(weights.values())).device.type
    with torch.autocast(device, enabled=False):
        return torch.func.functional_call(module, weights, rounded)


def _rounded(argument: Any) -> Any:
    is_float = isinstance(argument, Tensor) and argument.is_floating_point()
    return argument.to(torch.bfloat16) if is_float else argument
