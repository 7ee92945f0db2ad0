"""Ways of a GPU to convolve, which equal torch's own convolutions on any device."""

import pytest
import torch
from torch import nn

from tests.models.test_encoder import make_model
from w2v2.models.families import wide_convolution
from w2v2.models.frame_convolution import apply_layer, patch_products


@pytest.mark.parametrize(("kernel", "groups", "length"), [(16, 2, 40), (16, 4, 3), (9, 1, 25), (128, 4, 200)])
def test_a_wide_convolution_through_its_fourier_transform(kernel, groups, length):
    torch.manual_seed(0)
    conv = nn.Conv1d(8, 12, kernel, padding=kernel // 2, groups=groups)
    hidden = torch.randn(3, 8, length, requires_grad=True)
    expected, computed = conv(hidden), wide_convolution(conv, hidden)
    assert torch.allclose(computed, expected, atol=1e-5)
    toward = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [hidden, conv.weight, conv.bias], toward)
    for gradient, right in zip(
        torch.autograd.grad(computed, [hidden, conv.weight, conv.bias], toward), wanted, strict=True
    ):
        assert torch.allclose(gradient, right, atol=1e-4)


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (7, 2), (8, 8)])
@pytest.mark.parametrize("same", [True, False])
def test_products_of_patches_are_a_convolution_of_each_clip(kernel, stride, same):
    torch.manual_seed(0)
    waveforms, clips = torch.randn(3, 400), 1 if same else 3
    weights, shift = torch.randn(clips, 6, kernel), torch.randn(clips, 6)
    rows = patch_products(waveforms, weights, shift, stride=stride)
    for n in range(3):
        weight, bias = weights[n % clips], shift[n % clips]
        right = nn.functional.conv1d(waveforms[n][None], weight[:, None], bias, stride=stride)
        assert torch.allclose(rows[n], right.T, atol=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "wav2vec2-layer"])
def test_a_layer_in_bfloat16_is_transformers_own_up_to_rounding(kind):
    torch.manual_seed(0)
    layers = make_model(kind).feature_extractor.conv_layers
    for number in (0, 1) if kind == "wav2vec2-layer" else (1,):
        hidden = torch.randn(2, 1 if number == 0 else 17, 300)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            computed = apply_layer(layers[number], hidden)
        expected = layers[number](hidden)
        assert computed.dtype == torch.bfloat16
        assert float((computed.float() - expected).norm() / expected.norm()) < 0.01


def test_weights_under_a_norm():
    torch.manual_seed(0)
    conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 16, padding=8, groups=2), dim=2)
    with torch.no_grad():
        conv.parametrizations.weight.original0.mul_(torch.rand(1, 1, 16) + 0.5)
    hidden = torch.randn(2, 8, 30)
    assert torch.allclose(wide_convolution(conv, hidden), conv(hidden), atol=1e-5)
