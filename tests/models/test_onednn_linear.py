"""oneDNN's linear layer is torch's, forwards and backwards, and a model does not notice which it has."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Model

from w2v2.models import onednn_linear
from w2v2.models.onednn_linear import OneDnnLinear, onednn_is_faster, use_fastest_linear
from w2v2.models.pretrained import load_encoder, tiny_config

SHAPES = [(7,), (5, 7), (1, 1, 7), (3, 5, 7), (2, 0, 7), (2, 3, 4, 7)]


def pair(bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(2)
    torchs = nn.Linear(7, 4, bias=bias)
    ours = copy.deepcopy(torchs)
    ours.__class__ = OneDnnLinear
    return torchs, ours


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_those_in_float64(shape, bias):
    torchs, ours = pair(bias)
    x = torch.randn(shape)
    results = []
    for layer, given in ((torchs.double(), x.double().requires_grad_()), (ours, x.clone().requires_grad_())):
        out = layer(given)
        (out * torch.arange(out.numel()).view(out.shape)).sum().backward()
        grads = [p.grad for p in layer.parameters()]
        results.append([out, given.grad, *grads])
    for wanted, got in zip(*results, strict=True):
        assert got.shape == wanted.shape and got.dtype == torch.float32
        torch.testing.assert_close(got.double(), wanted, atol=1e-5, rtol=1e-5)


def test_strided_inputs_and_frozen_parts():
    torchs, ours = pair()
    x = torch.randn(6, 7, 5).transpose(1, 2)[::2]
    torch.testing.assert_close(ours(x), torchs(x))
    ours.weight.requires_grad_(False)
    given = x.clone().requires_grad_()
    ours(given).sum().backward()
    assert ours.weight.grad is None and given.grad is not None
    torch.testing.assert_close(ours.bias.grad, torch.full((4,), 15.0))


def test_its_output_may_be_changed_in_place_as_transformers_does():
    _, ours = pair()
    out = ours(torch.randn(2, 3, 7))
    out[torch.tensor([[True, False, True], [False, False, True]])] = 0
    out.sum().backward()
    torch.testing.assert_close(ours.bias.grad, torch.full((4,), 3.0))


def test_other_precisions_are_left_to_torch():
    torchs, ours = pair()
    x = torch.randn(3, 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
        assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours.double()(x.double()), torchs.double()(x.double()))


def test_a_model_keeps_its_outputs_gradients_and_weights(monkeypatch):
    monkeypatch.setattr(onednn_linear, "onednn_is_faster", lambda: True)
    torch.manual_seed(0)
    plain = Wav2Vec2Model(tiny_config()).eval()
    swapped = copy.deepcopy(plain)
    use_fastest_linear(swapped)
    kinds = {type(module) for module in swapped.modules()}
    assert OneDnnLinear in kinds and nn.Linear not in kinds
    assert swapped.state_dict().keys() == plain.state_dict().keys()
    sound = torch.randn(2, 8000)
    states = [model(sound).last_hidden_state for model in (plain, swapped)]
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-5)
    for out in states:
        out.square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), swapped.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-3, msg=name)
    assert torch.equal(copy.deepcopy(swapped)(sound).last_hidden_state, states[1])


@pytest.mark.parametrize(
    ("capability", "vendor", "faster"),
    [("AVX512", "AuthenticAMD", True), ("AVX2", "AuthenticAMD", False), ("AVX512", "GenuineIntel", False)],
)
def test_it_is_used_where_it_was_measured_to_be_faster(monkeypatch, capability, vendor, faster):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(Path, "read_text", lambda self: f"vendor_id\t: {vendor}\n")
    onednn_is_faster.cache_clear()
    try:
        assert onednn_is_faster() == faster
    finally:
        onednn_is_faster.cache_clear()


def test_encoders_are_loaded_with_what_is_fastest_here():
    from w2v2.config.model import EncoderConfig

    encoder = load_encoder(EncoderConfig(name="tiny"), seed=0)
    assert (
        isinstance(encoder.model.encoder.layers[0].feed_forward.output_dense, OneDnnLinear)
        == onednn_is_faster()
    )
