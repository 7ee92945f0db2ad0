"""Frames of a padded batch one clip after the other, so that layers compute none of the padding."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from w2v2.models.device import to_device
from w2v2.models.pooling import frame_mask

NAME = "w2v2_packed"


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where the frames of a batch's clips are, in the padded batch and one after the other."""

    places: Int[Tensor, " total"]
    """Of each frame in the padded batch, whose rows follow each other."""
    bounds: Int[Tensor, " clips_and_one"]
    """The first packed frame of each clip, and the end of the last one."""
    shape: tuple[int, int]
    """Clips, and frames of the padded batch."""
    longest: int
    """Frames of the longest clip."""
    inside: Bool[Tensor, "batch frames"]
    """True on the clips' own frames."""

    @classmethod
    def of(cls, num_frames: Int[Tensor, " batch"], length: int, device: torch.device) -> "Packing":
        """The packing of clips with so many frames in a batch padded to `length`; num_frames are best on the CPU."""
        counts = num_frames.cpu()
        inside = frame_mask(counts, length)
        bounds = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
        return cls(
            places=to_device(inside.flatten().nonzero()[:, 0], device),
            bounds=to_device(bounds, device),
            shape=(len(counts), length),
            longest=int(counts.max()),
            inside=to_device(inside, device),
        )

    def pack(self, hidden: Float[Tensor, "batch frames *dims"]) -> Float[Tensor, "1 total *dims"]:
        """The clips' own frames, as a batch of one."""
        return hidden.flatten(0, 1).index_select(0, self.places)[None]

    def unpack(self, packed: Float[Tensor, "1 total *dims"]) -> Float[Tensor, "batch frames *dims"]:
        """The padded batch of packed frames, zero past a clip's end."""
        rows = packed.new_zeros(self.shape[0] * self.shape[1], *packed.shape[2:])
        return rows.index_copy(0, self.places, packed[0]).unflatten(0, self.shape)


@contextlib.contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """A block in which the layers of a transformers model take packed frames, and a Packing as their attention mask."""
    usual = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def _attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads total dim"],
    key: Float[Tensor, "1 heads total dim"],
    value: Float[Tensor, "1 heads total dim"],
    attention_mask: Packing,
    *,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Float[Tensor, "1 total heads dim"], None]:
    """Attention of each clip's frames to each other, as one of transformers' attention functions."""
    packing = attention_mask
    queries, keys, values = (states.transpose(1, 2) for states in (query, key, value))
    if not dropout and _fits_varlen(query, scaling):
        bounds, longest = packing.bounds, packing.longest
        attended = varlen_attn(queries[0], keys[0], values[0], bounds, bounds, longest, longest)
        assert isinstance(attended, Tensor)
        return attended[None], None
    # varlen_attn has no dropout.
    padded = (packing.unpack(rows).transpose(1, 2) for rows in (queries, keys, values))
    attended = _of_padded(*padded, mask=packing.inside, scale=scaling, dropout=dropout)
    return packing.pack(attended.transpose(1, 2)), None


def _fits_varlen(query: Float[Tensor, "1 heads total dim"], scaling: float) -> bool:
    """Whether varlen_attn computes it: on GPUs since Ampere, in 16 bits, with heads of such sizes and the usual scale."""
    dim = query.shape[-1]
    return (
        query.is_cuda
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and query.dtype in (torch.bfloat16, torch.float16)
        and dim % 8 == 0
        and scaling == dim**-0.5
    )


def _of_padded(
    query: Float[Tensor, "batch heads frames dim"],
    key: Float[Tensor, "batch heads frames dim"],
    value: Float[Tensor, "batch heads frames dim"],
    *,
    mask: Bool[Tensor, "batch frames"],
    scale: float,
    dropout: float,
) -> Float[Tensor, "batch heads frames dim"]:
    return nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None, None], dropout_p=dropout, scale=scale
    )


AttentionInterface.register(NAME, _attention)
