"""Pieces of time change neither the frames nor their number, and keep long recordings in memory."""

import pytest
import torch

from tests.models.test_encoder import MODELS, make_model, padded
from w2v2.models import convolutions
from w2v2.models.convolutions import convolve, receptive_field


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("budget", [91, 400, 1000, 3000])
def test_pieces_give_the_frames_of_the_whole(kind, budget, monkeypatch):
    layers = list(make_model(kind).feature_extractor.conv_layers)
    torch.manual_seed(1)
    clips = [torch.randn(length) + 0.2 for length in (8000, 7777, 50)]
    whole = convolve(layers, *padded(clips))  # in pieces only where no gradient is wanted
    spans = []
    monkeypatch.setattr(convolutions, "padded_budget", lambda device: 3 * budget)
    original = convolutions._pieces
    monkeypatch.setattr(convolutions, "_pieces", lambda *args: spans.append(original(*args)) or spans[-1])
    with torch.no_grad():
        pieces = convolve(layers, *padded(clips))
    assert len(spans[0]) > 1
    assert pieces.shape == whole.shape
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_samples", [129, 159, 160, 199, 200, 201, 999, 4001])
def test_every_frame_is_in_one_piece(num_samples, monkeypatch):
    layers = list(make_model("wav2vec2-layer").feature_extractor.conv_layers)
    samples, hop = receptive_field(layers)
    assert (samples, hop) == (10 + 5 * (2 + 4 * 1), 40)  # kernels 10, 3, 2; strides 5, 4, 2
    monkeypatch.setattr(convolutions, "padded_budget", lambda device: 128)
    with torch.no_grad():
        spans = convolutions._pieces(layers, torch.zeros(1, num_samples))
    frames = [list(range(start, end - samples + 1, hop)) for start, end in spans]
    num_frames = (num_samples - samples) // hop + 1
    assert [at for starts in frames for at in starts] == [frame * hop for frame in range(num_frames)]
    assert all(end - start < 128 + hop for start, end in spans)


def test_training_sees_the_whole_clip():
    layers = list(make_model("wav2vec2-layer").feature_extractor.conv_layers)
    assert convolutions._pieces(layers, torch.zeros(1, 16_000 * 60)) == [(0, 16_000 * 60)]
