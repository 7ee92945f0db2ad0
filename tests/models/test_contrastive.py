"""The losses by the paper's equations, on three frames."""

import math

import pytest
import torch

from w2v2.models.contrastive import contrast_clip, diversity, diversity_weights, perplexity
from w2v2.models.quantizer import Quantizer


def test_contrastive_loss_by_its_equation():
    """-log(exp(sim(c, q) / t) / sum over the candidates), a negative with the frame's own codes left out."""
    context = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    targets = torch.tensor([[2.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    codes = torch.tensor([[0, 1], [2, 2], [0, 1]])
    negatives = torch.tensor([[1, 2], [0, 2], [0, 1]])
    half = math.sqrt(0.5)
    # frame 0: own 1, frame 1 at 45 degrees, frame 2 has its codes; frame 1: own at 45, the others at 90 degrees.
    expected = -math.log(math.exp(1 / 0.5) / (math.exp(1 / 0.5) + math.exp(half / 0.5)))
    expected += -math.log(math.exp(half / 0.5) / (math.exp(half / 0.5) + 2))
    # frame 2: own at 45 degrees, frame 0 has its codes, frame 1 is parallel.
    expected += -math.log(math.exp(half / 0.5) / (math.exp(half / 0.5) + math.exp(1 / 0.5)))
    contrast = contrast_clip(context, targets, codes, negatives, temperature=0.5)
    assert contrast.loss.item() == pytest.approx(expected, rel=1e-6)
    assert contrast.num_hits.item() == 2


def test_all_negatives_of_the_same_codes_are_a_loss_of_zero():
    """One picture of collapse, which looks like success."""
    same = torch.ones(3, 4)
    negatives = torch.tensor([[1, 2], [0, 2], [0, 1]])
    contrast = contrast_clip(
        torch.randn(3, 4), same, torch.zeros(3, 2, dtype=torch.int64), negatives, temperature=0.1
    )
    assert (contrast.loss.item(), contrast.num_hits.item()) == (0.0, 3.0)


def test_diversity_of_even_and_single_codes():
    even = torch.full((2, 5), 3.0)
    one = torch.zeros(2, 5)
    one[:, 2] = 15.0
    assert perplexity(even, 15.0).tolist() == pytest.approx([5.0, 5.0])
    assert perplexity(one, 15.0).tolist() == pytest.approx([1.0, 1.0])
    assert diversity(even, 15.0).item() == pytest.approx(0.0, abs=1e-6)
    assert diversity(one, 15.0).item() == pytest.approx(0.8)


def test_diversity_weights_are_its_derivative():
    sums = torch.rand(2, 5, dtype=torch.float64) + 0.1
    step = 1e-6
    weights = diversity_weights(sums, 4.0)
    for place in ((0, 0), (1, 3)):
        more = sums.clone()
        more[place] += step
        slope = (diversity(more, 4.0) - diversity(sums, 4.0)).item() / step
        assert weights[place].item() == pytest.approx(slope, rel=1e-4)


def test_quantizer_takes_the_likeliest_code_of_each_book():
    torch.manual_seed(0)
    quantizer = Quantizer(3, num_groups=2, num_codes=5, code_dim=8)
    latents = torch.randn(7, 3)
    quantized = quantizer(latents, None, temperature=1.0)
    logits = quantizer.weight_proj(latents)
    for frame in range(7):
        codes = [logits[frame, :5].argmax().item(), logits[frame, 5:].argmax().item()]
        assert quantized.codes[frame].tolist() == codes
        expected = torch.cat([quantizer.codevectors[0, codes[0]], quantizer.codevectors[0, 5 + codes[1]]])
        torch.testing.assert_close(quantized.vectors[frame], expected)
    noise = torch.zeros(7, 2, 5)
    noise[..., 4] = 1e4
    assert (quantizer(latents, noise, temperature=2.0).codes == 4).all()
