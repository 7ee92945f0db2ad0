"""Low-rank adaptation (LoRA, Hu et al. 2021, arXiv:2106.09685) of an encoder's trained layers.

The update is a parametrization of the weight itself, W + alpha / rank * B A, and not a module around a layer: so every
forward uses it, also that of WavLM's attention, which reads the weights of its projections and never calls them.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from w2v2.config.model import LoraConfig, Projection
from w2v2.errors import UserError
from w2v2.models.encoder import Encoder

PATHS: dict[Projection, tuple[str, ...]] = {
    "query": ("attention.q_proj",),
    "key": ("attention.k_proj",),
    "value": ("attention.v_proj",),
    "output": ("attention.out_proj",),
    "feed_forward": ("feed_forward.intermediate_dense", "feed_forward.output_dense"),
}
"""The linear layers of each projection within a transformer layer, by the names that most families share."""
WHISPER_PATHS: dict[Projection, tuple[str, ...]] = {
    "query": ("self_attn.q_proj",),
    "key": ("self_attn.k_proj",),
    "value": ("self_attn.v_proj",),
    "output": ("self_attn.out_proj",),
    "feed_forward": ("fc1", "fc2"),
}
SEW_D_PATHS: dict[Projection, tuple[str, ...]] = {
    "query": ("attention.self.query_proj",),
    "key": ("attention.self.key_proj",),
    "value": ("attention.self.value_proj",),
    "output": ("attention.output.dense",),
    "feed_forward": ("intermediate.dense", "output.dense"),
}
CONFORMER_PATHS: dict[Projection, tuple[str, ...]] = {
    "query": ("self_attn.linear_q",),
    "key": ("self_attn.linear_k",),
    "value": ("self_attn.linear_v",),
    "output": ("self_attn.linear_out",),
    "feed_forward": tuple(f"ffn{n}.{name}_dense" for n in (1, 2) for name in ("intermediate", "output")),
}


class LowRankUpdate(nn.Module):
    """A weight plus scale * B A; A is random and B zero at the start, so that training begins with the weight itself."""

    def __init__(self, weight: Float[Tensor, "outputs inputs"], config: LoraConfig) -> None:
        super().__init__()
        num_outputs, num_inputs = weight.shape
        self.scale = config.alpha / config.rank
        self.a = nn.Parameter(torch.empty(config.rank, num_inputs))
        self.b = nn.Parameter(torch.zeros(num_outputs, config.rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as nn.Linear begins

    def forward(self, weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        """The updated weight, in float32 also where layers compute in bfloat16: merged weights are the same then."""
        with torch.autocast(weight.device.type, enabled=False):
            return torch.addmm(weight, self.b, self.a, alpha=self.scale)


def add_lora(encoder: Encoder, config: LoraConfig) -> None:
    """Freeze the encoder except low-rank updates of the chosen projections of its trained layers; rank 0 changes nothing.

    Raises UserError for a rank above the size of a projection.
    """
    if not config.rank:
        return
    encoder.model.requires_grad_(False)
    for layer in encoder.trained_layers:
        for linear in _projections(layer, config):
            if config.rank > min(linear.weight.shape):
                raise UserError(
                    f"lora.rank must be at most {min(linear.weight.shape)}, the smaller side of a projection of "
                    f"{encoder.config.name}, got {config.rank}"
                )
            parametrize.register_parametrization(linear, "weight", LowRankUpdate(linear.weight, config))


@torch.no_grad()
def merge_lora(encoder: Encoder) -> None:
    """Merge each update into its weight, so that the encoder consists of transformers' classes again."""
    for module in encoder.model.modules():
        parametrizations = getattr(module, "parametrizations", {})
        if "weight" in parametrizations and isinstance(parametrizations["weight"][0], LowRankUpdate):
            merged = module.weight.clone()
            # Leaving the parametrized value in place would overwrite the original tensor, which other models share.
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            module.weight = nn.Parameter(merged, requires_grad=False)


def _projections(layer: nn.Module, config: LoraConfig) -> Iterator[nn.Linear]:
    if hasattr(layer, "attention"):
        paths = SEW_D_PATHS if hasattr(layer, "intermediate") else PATHS
    else:
        paths = CONFORMER_PATHS if hasattr(layer.self_attn, "linear_q") else WHISPER_PATHS
    for projection in config.projections:
        for path in paths[projection]:
            yield layer.get_submodule(path)  # type: ignore[misc]
