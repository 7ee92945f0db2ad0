"""Convolutions on frames equal torch's, forwards and backwards, and take the place of transformers' layers on a CPU."""

import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2GroupNormConvLayer,
    Wav2Vec2LayerNormConvLayer,
)

from w2v2.models import frame_convolution, onednn_linear
from w2v2.models.frame_convolution import apply_layer


def _layer(kernel: int, stride: int, *, inputs: int, bias: bool) -> nn.Module:
    torch.manual_seed(kernel + stride)
    config = Wav2Vec2Config(
        conv_dim=(inputs, 8), conv_kernel=(10, kernel), conv_stride=(5, stride), conv_bias=bias
    )
    layer = Wav2Vec2LayerNormConvLayer(config, layer_id=1)
    nn.init.normal_(layer.layer_norm.weight)
    return layer


@pytest.mark.parametrize("kernel, stride", [(3, 2), (2, 2), (10, 5), (3, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("inputs, bias", [(1, True), (6, False)])
@pytest.mark.parametrize("length", [10, 31, 32])
def test_layers_equal_transformers_in_float64(kernel, stride, inputs, bias, length):
    layer = _layer(kernel, stride, inputs=inputs, bias=bias).double()
    hidden = torch.randn(3, inputs, length, dtype=torch.float64)

    def outcome(apply):
        given = hidden.clone().requires_grad_()
        output = apply(given)
        return [output, *torch.autograd.grad(output.sin().sum(), [given, *layer.parameters()])]

    for ours, theirs in zip(outcome(lambda given: apply_layer(layer, given)), outcome(layer), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_gradients_that_nobody_needs_are_not_computed():
    layer = _layer(3, 2, inputs=6, bias=True)
    hidden = torch.randn(2, 6, 20)
    layer.conv.requires_grad_(False)
    output = apply_layer(layer, hidden.requires_grad_())
    output.sum().backward()
    assert hidden.grad is not None and layer.conv.weight.grad is None and layer.conv.bias.grad is None


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN")
def test_both_libraries_give_the_same_numbers(monkeypatch):
    layer, hidden = _layer(3, 2, inputs=6, bias=True), torch.randn(2, 6, 40)
    outcomes = []
    for faster in (True, False):
        monkeypatch.setattr(onednn_linear, "onednn_is_faster", lambda faster=faster: faster)
        layer.zero_grad()
        output = apply_layer(layer, hidden)
        output.square().sum().backward()
        outcomes.append([output, layer.conv.weight.grad.clone()])
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("autocast", [True, False])
def test_other_layers_are_transformers_own(autocast, monkeypatch):
    def refuse(*args):
        raise AssertionError("computed on frames")

    monkeypatch.setattr(frame_convolution._FrameConvolution, "apply", refuse)
    grouped = Wav2Vec2GroupNormConvLayer(Wav2Vec2Config(conv_dim=(8,), conv_kernel=(10,), conv_stride=(5,)))
    hidden = torch.randn(2, 1, 200)
    torch.testing.assert_close(apply_layer(grouped, hidden), grouped(hidden))
    layer = _layer(3, 2, inputs=6, bias=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        if autocast:
            assert apply_layer(layer, torch.randn(2, 6, 20)).shape == (2, 8, 9)
        else:
            with pytest.raises(AssertionError, match="on frames"):
                apply_layer(layer, torch.randn(2, 6, 20))
