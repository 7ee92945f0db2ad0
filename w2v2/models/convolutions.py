"""The convolutions of a wav2vec2-like encoder, so that a clip's frames depend on the clip alone."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from w2v2.models.device import padded_budget, to_device
from w2v2.models.frame_convolution import apply_layer, patch_products
from w2v2.models.pooling import frame_mask

AT_ONCE = 2**16
"""Patches whose moments are summed at once: 20 s of audio, 10 MB."""


def convolve(
    layers: Sequence[Any], waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
) -> Float[Tensor, "batch frames channels"]:
    """Output of a model's convolution layers; frames past a clip's end are not zero.

    Without gradients, long clips are computed in pieces: the first layer's output has a hundred times the bytes of the
    audio, 4 GB for ten minutes.
    """
    first = _first(layers[0], waveforms, num_samples)
    parts = []
    for start, end in _pieces(layers, waveforms):
        hidden = first(waveforms[:, start:end])
        for layer in layers[1:]:
            hidden = apply_layer(layer, hidden)
        parts.append(hidden)
    return torch.cat(parts, dim=2).transpose(1, 2)


def receptive_field(layers: Iterable[Any]) -> tuple[int, int]:
    """Samples that one frame sees, and samples from one frame to the next."""
    samples, hop = 1, 1
    for layer in reversed(list(layers)):
        kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        samples, hop = (samples - 1) * stride + kernel, hop * stride
    return samples, hop


def field_of(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples of one frame of convolutions with these kernels and strides.

    >>> field_of([10, 3], [5, 2])
    20
    """
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _pieces(layers: Sequence[Any], waveforms: Float[Tensor, "batch samples"]) -> list[tuple[int, int]]:
    """First sample and end of each piece. Pieces overlap so that their frames equal those of the whole clip."""
    batch, num_samples = waveforms.shape
    longest = padded_budget(waveforms.device) // batch
    if torch.is_grad_enabled() or num_samples <= longest:
        return [(0, num_samples)]
    samples, hop = receptive_field(layers)
    num_frames = (num_samples - samples) // hop + 1
    # Pieces of equal length: a short last one would run as slowly as the others.
    per_piece = math.ceil(num_frames / math.ceil(num_samples / max(longest, samples)))
    starts = range(0, num_frames, per_piece)
    return [(start * hop, (min(start + per_piece, num_frames) - 1) * hop + samples) for start in starts]


def _first(
    layer: Any, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
) -> Callable[[Float[Tensor, "batch samples"]], Float[Tensor, "batch channels frames"]]:
    """The first convolution, applied piece by piece with group-norm statistics of the whole clip."""
    if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
        return _folded(layer, waveforms, num_samples)
    return lambda piece: apply_layer(layer, piece[:, None])


def _folded(
    layer: Any, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
) -> Callable[[Float[Tensor, "batch samples"]], Float[Tensor, "batch channels frames"]]:
    """The first convolution with its group normalisation folded into its weights, separately for each clip.

    The convolution is linear with one input channel, so the mean and variance of every output channel
    over a clip follow exactly from the mean and the second moment of its patches: mean = w m and
    var = w (S - m m') w'. Any bias of the convolution cancels in the normalisation.
    """
    weight = layer.conv.weight[:, 0]
    mean, covariance = _patch_moments(waveforms, num_samples, weight.shape[1], layer.conv.stride[0])
    double = weight.double()
    deviation = torch.einsum("ck,bkj,cj->bc", double, covariance, double).add(layer.layer_norm.eps).sqrt()
    scale = layer.layer_norm.weight / deviation
    shift = (layer.layer_norm.bias - scale * (mean @ double.T)).to(weight.dtype)
    weights = (scale[..., None] * double).to(weight.dtype)

    def first(piece: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch channels frames"]:
        is_bf16 = torch.is_autocast_enabled(piece.device.type)
        if is_bf16 or piece.device.type != "cpu":
            dtype = torch.bfloat16 if is_bf16 else weight.dtype
            rows = patch_products(
                piece.to(dtype), weights.to(dtype), shift.to(dtype), stride=layer.conv.stride[0]
            )
            return layer.activation(rows).transpose(1, 2)
        flat = weights.flatten(0, 1)[:, None]
        hidden = nn.functional.conv1d(
            piece[None], flat, shift.flatten(), stride=layer.conv.stride, groups=len(piece)
        )
        return layer.activation(hidden.view(*scale.shape, -1))

    return first


def _patch_moments(
    waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"], kernel: int, stride: int
) -> tuple[Float[Tensor, "batch kernel"], Float[Tensor, "batch kernel kernel"]]:
    """Mean and covariance, in float64, of the patches that the convolution sees in each clip."""
    patches = waveforms.unfold(1, kernel, stride)
    num_patches = to_device((num_samples - kernel) // stride + 1, waveforms.device)
    inside = frame_mask(num_patches, patches.shape[1])
    total, second = 0.0, 0.0
    for part, is_inside in zip(patches.split(AT_ONCE, 1), inside.split(AT_ONCE, 1), strict=True):
        double = part.double() * is_inside[..., None]
        total = total + double.sum(1)
        second = second + double.transpose(1, 2) @ double
    mean = total / num_patches[:, None]
    return mean, second / num_patches[:, None, None] - mean[:, :, None] * mean[:, None]
