"""Latent frames to codes of several books: the targets of pre-training."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class QuantizedFrames(NamedTuple):
    """Frames as codes."""

    vectors: Float[Tensor, "frames dim"]
    """The chosen codes' vectors, with the vectors of all books side by side."""
    codes: Int[Tensor, "frames groups"]
    """The number of the chosen code in each book."""
    probabilities: Float[Tensor, "frames groups codes"]
    """Softmax of each book's logits, without noise."""


class Quantizer(nn.Module):
    """Product quantization with names of parameters as in transformers' Wav2Vec2GumbelVectorQuantizer."""

    def __init__(self, latent_dim: int, *, num_groups: int, num_codes: int, code_dim: int) -> None:
        super().__init__()
        self.num_groups, self.num_codes = num_groups, num_codes
        self.codevectors = nn.Parameter(torch.rand(1, num_groups * num_codes, code_dim // num_groups))
        self.weight_proj = nn.Linear(latent_dim, num_groups * num_codes)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)

    def code_logits(self, latents: Float[Tensor, "frames latent"]) -> Float[Tensor, "frames groups codes"]:
        """Logits of the codes of each book, in float32."""
        return self.weight_proj(latents).float().view(len(latents), self.num_groups, self.num_codes)

    def forward(
        self,
        latents: Float[Tensor, "frames latent"],
        noise: Float[Tensor, "frames groups codes"] | None,
        *,
        temperature: float,
    ) -> QuantizedFrames:
        """The codes of latent frames: the most probable ones, or with Gumbel noise a straight-through draw.

        With noise, gradients are computed as for a softmax at this temperature (Jang et al. 2017, arXiv:1611.01144).
        """
        logits = self.code_logits(latents)
        soft = logits.softmax(2)
        if noise is None:
            codes = logits.argmax(2)
            chosen = nn.functional.one_hot(codes, self.num_codes).to(soft.dtype)
        else:
            relaxed = ((logits + noise) / temperature).softmax(2)
            codes = relaxed.argmax(2)
            chosen = nn.functional.one_hot(codes, self.num_codes) - relaxed.detach() + relaxed
        books = self.codevectors.view(self.num_groups, self.num_codes, -1)
        vectors = torch.einsum("fgc,gcd->fgd", chosen, books.to(chosen.dtype)).flatten(1)
        return QuantizedFrames(vectors, codes, soft)
