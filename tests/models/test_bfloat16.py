"""Layers in bfloat16 throughout: as near to float32 as autocast, whatever shares a clip's batch, with gradients."""

import pytest
import torch

from tests.models.test_encoder import make_encoder, padded, waveforms  # noqa: F401
from w2v2.config.model import LoraConfig
from w2v2.models import encoder as encoder_module
from w2v2.models.bfloat16 import computes_in_bfloat16, in_bfloat16
from w2v2.models.lora import add_lora
from w2v2.models.pooling import pool

KINDS = ("wav2vec2-group", "wav2vec2-layer", "hubert-group", "hubert-batch-norm", "unispeech-sat", "data2vec")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def without_onednn(monkeypatch):
    """On a processor with AMX, oneDNN 3.12 convolves groups of fewer than 16 channels wrongly in bfloat16; a GPU has no oneDNN."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


def in_autocast():
    return torch.autocast("cpu", torch.bfloat16)


def apart(states, other, num_frames):
    inside = torch.arange(states.shape[1]) < num_frames[:, None]
    difference = (states.float() - other.float())[inside]
    return float(difference.norm() / other.float()[inside].norm())


@pytest.mark.parametrize("kind", KINDS)
def test_as_near_to_float32_as_autocast(kind, waveforms, monkeypatch):  # noqa: F811
    encoder, inputs = make_encoder(kind, train="all"), padded(waveforms)
    with torch.no_grad():
        exact, num_frames = encoder(*inputs)
        with in_autocast():
            assert computes_in_bfloat16(encoder.model, CPU)
            states, same = encoder(*inputs)
            monkeypatch.setattr(encoder_module, "computes_in_bfloat16", lambda *_: False)
            usual, _ = encoder(*inputs)
    assert torch.equal(num_frames, same)
    assert apart(states, exact, num_frames) < max(1.5 * apart(usual, exact, num_frames), 0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_does_not_depend_on_its_batch(kind, waveforms):  # noqa: F811
    encoder = make_encoder(kind, train="all")
    with torch.no_grad(), in_autocast():
        states, num_frames = encoder(*padded(waveforms))
        for row, count, waveform in zip(states, num_frames, waveforms, strict=True):
            alone, _ = encoder(*padded([waveform]))
            assert apart(row[None, :count], alone, torch.tensor([count])) < 0.01


def test_frames_past_a_clip_s_end_are_zero(waveforms):  # noqa: F811
    encoder = make_encoder("wav2vec2-group", train="all", layer=2)
    with torch.no_grad(), in_autocast():
        states, num_frames = encoder(*padded(waveforms))
    assert all((row[count:] == 0).all() for row, count in zip(states, num_frames, strict=True))


def test_several_states_are_those_of_single_layers(waveforms):  # noqa: F811
    mixed = make_encoder("wav2vec2-layer", train="all", layer="mix")
    with torch.no_grad(), in_autocast():
        states, _ = mixed(*padded(waveforms))
        for layer in range(4):
            single, _ = make_encoder("wav2vec2-layer", train="all", layer=layer)(*padded(waveforms))
            assert torch.equal(states[:, :, layer].float(), single.float())


@pytest.mark.parametrize("kind", ["wav2vec2-group", "wav2vec2-layer"])
def test_gradients_are_those_of_float32_up_to_rounding(kind, waveforms):  # noqa: F811
    encoder = make_encoder(kind, train="all")
    torch.manual_seed(1)
    toward = torch.randn(24)

    def gradients():
        encoder.zero_grad()
        states, num_frames = encoder(*padded(waveforms))
        pool(states, num_frames, "mean").matmul(toward).sum().backward()
        return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}

    exact = gradients()
    with in_autocast():
        rounded = gradients()
    assert exact.keys() == rounded.keys()
    for name, gradient in exact.items():
        if "k_proj.bias" not in name:  # has none: the softmax takes a shift of all keys out again
            cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), rounded[name].flatten(), dim=0)
            assert cosine > 0.97, name


def test_weights_keep_their_type():
    layer = torch.nn.Linear(3, 2)
    out = in_bfloat16(layer, torch.ones(4, 3))
    out.sum().backward()
    assert out.dtype == torch.bfloat16 and layer.weight.dtype == layer.weight.grad.dtype == torch.float32


def test_low_rank_updates_stay_with_autocast():
    encoder = make_encoder("wav2vec2-group", train="last", num_last_layers=1)
    add_lora(encoder, LoraConfig(rank=2))
    with in_autocast():
        assert not computes_in_bfloat16(encoder.model, CPU)


def test_without_autocast_nothing_is_rounded():
    assert not computes_in_bfloat16(make_encoder("wav2vec2-group", train="all").model, CPU)
