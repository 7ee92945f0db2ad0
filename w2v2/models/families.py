"""Internals of transformers' models of the wav2vec2 family that differ between model types.

transformers may change them in any version: pyproject.toml bounds its version, and tests/test_internals.py reports
what a new one has changed. Parts with the same names in all families (`feature_extractor`, `feature_projection`,
`encoder.layers`, ...) are used by the Encoder directly.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

FAMILIES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio")
"""The model types that an Encoder takes."""

LayerRunner = Callable[[nn.Module, Tensor], Tensor]
"""Runs one transformer layer on hidden states."""


def positions(
    model: Any, hidden: Float[Tensor, "batch frames dim"], mask: Bool[Tensor, "batch frames"]
) -> Float[Tensor, "batch frames dim"]:
    """Positional convolution with padded frames zeroed before every layer, so that padding cannot leak in."""
    embed = model.encoder.pos_conv_embed
    hidden = hidden.transpose(1, 2)
    inside = mask[:, None]
    if hasattr(embed, "layers"):  # data2vec stacks several convolutions
        for layer in embed.layers:
            hidden = layer(hidden * inside)
        return hidden.transpose(1, 2)
    if getattr(embed, "batch_norm", None) is not None:  # some HuBERTs; its shift would fill the padding
        hidden = embed.batch_norm(hidden) * inside
        return embed.activation(embed.padding(embed.conv(hidden))).transpose(1, 2)
    return embed(hidden.transpose(1, 2))


def layer_runner(
    model: Any, hidden: Float[Tensor, "batch frames dim"], mask: Bool[Tensor, "batch frames"] | None
) -> LayerRunner:
    """A function (layer, hidden) -> hidden that passes the attention mask in the form of the model's family."""
    first = model.encoder.layers[0].attention
    if hasattr(first, "rel_attn_embed"):  # WavLM: one position bias, made by the first layer, serves all
        batch, frames = hidden.shape[:2]
        bias = first.compute_bias(frames, frames).repeat(batch, 1, 1)
        return lambda layer, x: layer(x, attention_mask=mask, position_bias=bias)[0]
    attention_mask = create_bidirectional_mask(config=model.config, inputs_embeds=hidden, attention_mask=mask)
    return lambda layer, x: layer(x, attention_mask=attention_mask)
