"""Frames of a padded batch one clip after the other, so that layers compute none of the padding."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from w2v2.models.device import to_device
from w2v2.models.pooling import frame_mask
from w2v2.models.torch_internals import flash_attention

MAX_DIM = 256
"""The largest dimension of a head for flash attention."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """The places of the frames of a batch's clips, in the padded batch and in the packed one."""

    places: Int[Tensor, " total"]
    """The place of each frame in the flattened padded batch."""
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

    def pack(self, hidden: Float[Tensor, "batch frames *dims"]) -> Float[Tensor, " total *dims"]:
        """The clips' own frames, without padding."""
        return hidden.flatten(0, 1).index_select(0, self.places)

    def unpack(self, packed: Float[Tensor, " total *dims"]) -> Float[Tensor, "batch frames *dims"]:
        """The padded batch of packed frames, zero past a clip's end."""
        rows = packed.new_zeros(self.shape[0] * self.shape[1], *packed.shape[1:])
        return rows.index_copy(0, self.places, packed).unflatten(0, self.shape)


def attention(
    states: Float[Tensor, "total 3 heads dim"], packing: Packing, *, dropout: float
) -> Float[Tensor, "total heads dim"]:
    """Attention of each clip's frames to each other; states are each frame's query, key and value."""
    query, key, value = states.unbind(1)
    if _fits_flash(query):
        return flash_attention(
            query, key, value, bounds=packing.bounds, longest=packing.longest, dropout=dropout
        )
    query, key, value = (packing.unpack(rows).transpose(1, 2) for rows in (query, key, value))
    mask = packing.inside[:, None, None]
    attended = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout
    )
    return packing.pack(attended.transpose(1, 2))


def _fits_flash(query: Float[Tensor, "total heads dim"]) -> bool:
    """Whether flash attention can compute it: on GPUs since Ampere, in 16 bits, with heads of these sizes."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= MAX_DIM
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )
