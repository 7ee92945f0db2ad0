"""Frames one clip after the other: packed and unpacked, and attention of each clip to itself."""

import torch
from torch import nn

from w2v2.models.packing import Packing, attention

COUNTS = torch.tensor([4, 1, 6, 3])
CPU = torch.device("cpu")


def test_unpacked_frames_are_those_that_were_packed():
    packing = Packing.of(COUNTS, 7, CPU)
    hidden = torch.randn(4, 7, 2, 3)
    packed = packing.pack(hidden)
    assert packed.shape == (14, 2, 3)
    assert torch.equal(packed, torch.cat([row[:count] for row, count in zip(hidden, COUNTS, strict=True)]))
    inside = torch.arange(7) < COUNTS[:, None]
    assert torch.equal(packing.unpack(packed), hidden * inside[..., None, None])
    assert packing.bounds.tolist() == [0, 4, 5, 11, 14] and packing.longest == 6


def test_each_clip_attends_to_itself():
    states = torch.randn(14, 3, 2, 8)
    attended = attention(states, Packing.of(COUNTS, 6, CPU), dropout=0.0)
    for part, whole in zip(states.split(COUNTS.tolist()), attended.split(COUNTS.tolist()), strict=True):
        query, key, value = part.permute(1, 2, 0, 3)
        expected = nn.functional.scaled_dot_product_attention(query, key, value).transpose(0, 1)
        assert torch.allclose(whole, expected, atol=1e-6)
