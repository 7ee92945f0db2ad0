"""Layers on packed frames: transformers' own, whatever shares a clip's batch, with weights that are rounded once."""

import copy

import pytest
import torch

from tests.models.test_encoder import make_model
from w2v2.models.bfloat16 import computes_in_bfloat16, rounded
from w2v2.models.packed_layers import NUM_WEIGHTS, PackedLayer, RoundedLayers, _groups
from w2v2.models.packing import Packing

COUNTS = torch.tensor([4, 1, 6, 3])
CPU = torch.device("cpu")
KINDS = ("wav2vec2-group", "wav2vec2-layer", "hubert-group", "hubert-batch-norm", "unispeech-sat", "data2vec")
STABLE = ("wav2vec2-layer", "hubert-batch-norm")


def exact(layer, stable):
    """The packed form of a layer in float32, in which it equals transformers' own to rounding."""
    return PackedLayer(module=layer, weights=[torch.cat(group) for group in _groups(layer)], stable=stable)


def packing_of(counts=COUNTS):
    return Packing.of(counts, int(counts.max()), CPU)


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_layer_is_transformers_own_on_each_clip(kind):
    layer = make_model(kind).encoder.layers[0]
    clips = [torch.randn(1, count, 24) for count in COUNTS]
    with torch.no_grad():
        alone = torch.cat([layer(clip)[0] for clip in clips])
        packed = exact(layer, kind in STABLE)(torch.cat(clips, dim=1)[0], packing_of())
    assert torch.allclose(packed, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "wav2vec2-layer"])
def test_dropouts_and_gradients_are_transformers_own(kind):
    layer = make_model(kind).encoder.layers[0].train()
    layer.attention.dropout = 0.0  # its draws depend on how frames are laid out
    hidden, one_clip = torch.randn(1, 6, 24, requires_grad=True), packing_of(torch.tensor([6]))
    results = []
    for run in (lambda x: layer(x)[0], lambda x: exact(layer, kind in STABLE)(x[0], one_clip)):
        torch.manual_seed(1)
        output = run(hidden)
        wanted = [hidden, *layer.parameters()]
        results.append([output, *torch.autograd.grad(output.square().sum(), wanted)])
    with torch.no_grad():
        assert not torch.allclose(results[0][0], layer.eval()(hidden)[0], atol=1e-3), "nothing was dropped"
    for usual, packed in zip(*results, strict=True):
        assert torch.allclose(usual, packed, atol=1e-4)


def test_dropout_of_attention_is_kept():
    layer = make_model("wav2vec2-group").encoder.layers[0]
    layer.attention.train().dropout = 0.5
    packed, hidden = exact(layer, False), torch.randn(14, 24)
    assert not torch.allclose(packed(hidden, packing_of()), packed(hidden, packing_of()))


def test_tensors_are_stacked_and_their_gradients_taken_apart():
    first, second, other = (torch.randn(rows, 3, requires_grad=True) for rows in (2, 4, 5))
    stacked, alone = rounded([[first, second], [other]])
    assert torch.equal(stacked, torch.cat([first, second]).bfloat16()) and torch.equal(
        alone, other.bfloat16()
    )
    toward = torch.randn(6, 3).bfloat16()
    ((stacked * toward).sum() + 2 * alone.sum()).backward()
    assert torch.equal(torch.cat([first.grad, second.grad]), toward.float())
    assert first.grad.dtype == torch.float32 and (other.grad == 2).all()


def test_weights_that_are_not_trained_are_rounded_once_and_again_when_they_change():
    layers = make_model("wav2vec2-group").requires_grad_(False).encoder.layers
    rounding = RoundedLayers()
    first = rounding.of(layers, 0, stable=False)
    assert rounding.of(layers, 0, stable=False) is first and len(first) == 3
    with torch.no_grad():
        layers[1].final_layer_norm.bias[3] += 1
    again = rounding.of(layers, 0, stable=False)
    assert (
        again is not first
        and again[1].weights[NUM_WEIGHTS - 1][3] == layers[1].final_layer_norm.bias[3].bfloat16()
    )
    layers.load_state_dict({name: 2 * value for name, value in layers.state_dict().items()})
    assert torch.equal(
        rounding.of(layers, 0, stable=False)[2].weights[2], layers[2].attention.out_proj.weight.bfloat16()
    )
    assert len(rounding.of(layers[:2], 0, stable=False)) == 2


def test_trained_weights_are_rounded_at_every_step():
    layers = make_model("wav2vec2-group").encoder.layers
    rounding = RoundedLayers()
    optimizer = torch.optim.AdamW(layers.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        packed = rounding.of(layers, 0, stable=False)
        assert torch.equal(packed[0].weights[2], layers[0].attention.out_proj.weight.bfloat16())
        packed[0](torch.randn(14, 24).bfloat16(), packing_of()).square().sum().backward()
        optimizer.step()
        with torch.no_grad():  # as in validation, between steps
            scored = rounding.of(layers, 0, stable=False)
        assert torch.equal(scored[0].weights[2], layers[0].attention.out_proj.weight.bfloat16())


def test_a_copy_of_a_model_rounds_its_own_weights():
    layers = make_model("wav2vec2-group").requires_grad_(False).encoder.layers
    rounding = RoundedLayers()
    rounding.of(layers, 0, stable=False)
    assert copy.deepcopy(rounding) == RoundedLayers()


def test_layers_with_adapters_stay_with_autocast():
    model = make_model("wav2vec2-layer")
    with torch.autocast("cpu", torch.bfloat16):
        assert computes_in_bfloat16(model, CPU)
        model.encoder.layers[2].adapter_layer = torch.nn.Identity()
        assert not computes_in_bfloat16(model, CPU)
