"""Frames one clip after the other: packed and unpacked, and attention of each clip to itself."""

import pytest
import torch

from tests.models.test_encoder import make_model
from w2v2.models.packing import Packing, packed_attention

COUNTS = torch.tensor([4, 1, 6, 3])
CPU = torch.device("cpu")


def test_unpacked_frames_are_those_that_were_packed():
    packing = Packing.of(COUNTS, 7, CPU)
    hidden = torch.randn(4, 7, 2, 3)
    packed = packing.pack(hidden)
    assert packed.shape == (1, 14, 2, 3)
    assert torch.equal(packed[0], torch.cat([row[:count] for row, count in zip(hidden, COUNTS, strict=True)]))
    inside = torch.arange(7) < COUNTS[:, None]
    assert torch.equal(packing.unpack(packed), hidden * inside[..., None, None])
    assert packing.bounds.tolist() == [0, 4, 5, 11, 14] and packing.longest == 6


@pytest.mark.parametrize("kind", ["wav2vec2-group", "hubert-group", "wav2vec2-layer"])
def test_a_layer_attends_within_each_clip(kind):
    model = make_model(kind)
    layer = model.encoder.layers[0]
    clips = [torch.randn(1, count, 24) for count in COUNTS]
    packing = Packing.of(COUNTS, 6, CPU)
    with torch.no_grad():
        alone = [layer(clip)[0] for clip in clips]
        with packed_attention(model):
            packed = layer(torch.cat(clips, dim=1), attention_mask=packing)
    assert torch.allclose(packed[0], torch.cat(alone), atol=1e-5)
    assert model.config._attn_implementation == "sdpa"


def test_dropout_of_attention_is_kept():
    model = make_model("wav2vec2-group")
    attention = model.encoder.layers[0].attention.train()
    attention.dropout = 0.5
    hidden, packing = torch.randn(1, 14, 24), Packing.of(COUNTS, 6, CPU)
    with packed_attention(model):
        first, second = (attention(hidden, attention_mask=packing)[0] for _ in range(2))
    assert not torch.allclose(first, second)


def test_the_attention_of_before_returns_after_an_error():
    model = make_model("wav2vec2-group")
    with pytest.raises(ZeroDivisionError), packed_attention(model):
        raise ZeroDivisionError
    assert model.config._attn_implementation == "sdpa"
