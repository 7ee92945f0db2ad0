"""Internals of transformers' models of the wav2vec2 family that differ between model types.

transformers may change them in any version: pyproject.toml bounds its version, and tests/test_internals.py reports
what a new one has changed. Parts with the same names in all families (`feature_extractor`, `feature_projection`,
`encoder.layers`, ...) are used by the Encoder directly.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from scipy.fft import next_fast_len
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from w2v2.models.architecture import CONFORMERS

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
    convolved = wide_convolution(embed.conv, hidden) if hidden.is_cuda else embed.conv(hidden)
    return embed.activation(embed.padding(convolved).to(hidden.dtype)).transpose(1, 2)


def wide_convolution(
    conv: nn.Conv1d, hidden: Float[Tensor, "batch inputs length"]
) -> Float[Tensor, "batch channels frames"]:
    """The output, in float32, of a grouped convolution with a wide kernel, through its Fourier transform.

    On an H200 the positional convolution of base takes a fourteenth of cuDNN's time in bfloat16.
    """
    assert not isinstance(conv.padding, str) and conv.stride == conv.dilation == (1,)
    kernel, padding = conv.kernel_size[0], conv.padding[0]
    weight = _normed_weight(conv).float()
    num_frames = hidden.shape[2] + 2 * padding - kernel + 1
    size = next_fast_len(hidden.shape[2] + 2 * padding, real=True)
    with torch.autocast(hidden.device.type, enabled=False):
        padded = nn.functional.pad(hidden.float(), (padding, padding))
        inputs = torch.fft.rfft(padded, size).unflatten(1, (conv.groups, -1))
        weights = torch.fft.rfft(weight, size).conj().unflatten(0, (conv.groups, -1))
        products = torch.einsum("bgif,goif->bgof", inputs, weights).flatten(1, 2)
        convolved = torch.fft.irfft(products, size)[..., :num_frames]
        return convolved if conv.bias is None else convolved + conv.bias[:, None]


def _normed_weight(conv: nn.Conv1d) -> Float[Tensor, "channels inputs kernel"]:
    """The weight of a convolution under torch's weight_norm, whose own kernel is slow over the last axis, or as it is."""
    parametrizations: Any = getattr(conv, "parametrizations", {})
    if "weight" not in parametrizations:
        return conv.weight
    scale, direction = parametrizations.weight.original0, parametrizations.weight.original1
    axes = [axis for axis in range(direction.ndim) if scale.shape[axis] == 1]
    return scale * direction / torch.linalg.vector_norm(direction, dim=axes, keepdim=True)


def squeezed_positions(
    model: Any, hidden: Float[Tensor, "batch frames dim"]
) -> Float[Tensor, "batch squeezed dim"]:
    """Means of every squeeze_factor frames of a SEW plus its positional convolution; hidden is zero past a clip's end."""
    encoder = model.encoder
    hidden = hidden.transpose(1, 2)
    means = encoder.pool(hidden)
    return (means + encoder.pos_conv_embed(hidden)[..., : means.shape[-1]]).transpose(1, 2)


def frames_of_clips(
    model: Any, num_frames: int, samples: Int[Tensor, "batch samples"]
) -> Bool[Tensor, "batch frames"]:
    """True on the frames of each clip, as transformers makes it of its mask of samples (1, and 0 on padding)."""
    return model._get_feature_vector_attention_mask(num_frames, samples)


def layers_of(model: Any) -> nn.ModuleList:
    """The transformer layers, lowest first."""
    layers: nn.ModuleList = (
        model.encoder.encoder.layer if model.config.model_type == "sew-d" else model.encoder.layers
    )
    return layers


def is_conformer(model: Any) -> bool:
    """Whether the layers are conformer blocks, whose attention knows positions."""
    return model.config.model_type in CONFORMERS


def final_norm(model: Any) -> nn.Module | None:
    """The normalisation of the last layer's output; None in models without one."""
    return None if model.config.model_type == "wav2vec2-bert" else model.encoder.layer_norm


def _conformer_runner(
    model: Any, hidden: Float[Tensor, "batch frames dim"], mask: Bool[Tensor, "batch frames"] | None
) -> LayerRunner:
    """layer_runner of conformer blocks, whose convolutions over time must not see padding either."""
    encoder = model.encoder
    attention_mask = create_bidirectional_mask(config=model.config, inputs_embeds=hidden, attention_mask=mask)
    relative = None if encoder.embed_positions is None else encoder.embed_positions(hidden)

    def run(layer: nn.Module, x: Tensor) -> Tensor:
        given = {"attention_mask": attention_mask, "relative_position_embeddings": relative}
        if model.config.model_type == "wav2vec2-bert":  # masks before its convolution by itself
            return layer(x, **given, conv_attention_mask=mask)
        if mask is None:
            return layer(x, **given)
        convolution: Any = layer.conv_module
        hook = convolution.depthwise_conv.register_forward_pre_hook(
            lambda _, args: (args[0] * mask[:, None],)
        )
        try:
            return layer(x, **given)
        finally:
            hook.remove()

    return run


def _disentangled_runner(
    model: Any, hidden: Float[Tensor, "batch frames dim"], mask: Bool[Tensor, "batch frames"] | None
) -> LayerRunner:
    """layer_runner of SEW-D, whose attention takes the distance of two frames from one table for all layers."""
    stack = model.encoder.encoder
    attention_mask = stack.get_attention_mask(
        torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device) if mask is None else mask
    )
    distances, embeddings = stack.get_rel_pos(hidden), stack.get_rel_embedding()
    return lambda layer, x: layer(x, attention_mask, relative_pos=distances, rel_embeddings=embeddings)


def layer_runner(
    model: Any, hidden: Float[Tensor, "batch frames dim"], mask: Bool[Tensor, "batch frames"] | None
) -> LayerRunner:
    """A function (layer, hidden) -> hidden that passes the attention mask in the form of the model's family."""
    if is_conformer(model):
        return _conformer_runner(model, hidden, mask)
    if model.config.model_type == "sew-d":
        return _disentangled_runner(model, hidden, mask)
    first = model.encoder.layers[0].attention
    if hasattr(first, "rel_attn_embed"):  # WavLM: one position bias, made by the first layer, serves all
        batch, frames = hidden.shape[:2]
        bias = first.compute_bias(frames, frames).repeat(batch, 1, 1)
        return lambda layer, x: layer(x, attention_mask=mask, position_bias=bias)[0]
    attention_mask = create_bidirectional_mask(config=model.config, inputs_embeds=hidden, attention_mask=mask)
    return lambda layer, x: layer(x, attention_mask=attention_mask)
