"""The contrastive loss and the diversity loss of wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477, equations 3 and 4)."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Contrast(NamedTuple):
    """Sums over the masked frames of one clip."""

    loss: Float[Tensor, ""]
    """Contrastive loss in nats."""
    num_hits: Float[Tensor, ""]
    """Frames whose own code is the most similar of the candidates."""


def contrast_clip(
    context: Float[Tensor, "masked dim"],
    targets: Float[Tensor, "masked dim"],
    codes: Int[Tensor, "masked groups"],
    negatives: Int[Tensor, "masked negatives"],
    *,
    temperature: float,
) -> Contrast:
    """The contrastive loss of a clip's masked frames, given their negatives (numbers of masked frames).

    Baevski et al. 2020, equation 3. Cosine similarities between all masked frames are computed once and then looked up.
    A negative with the same codes as the frame itself is left out.
    """
    similarity = nn.functional.normalize(context, dim=1) @ nn.functional.normalize(targets, dim=1).T
    is_same_code = (codes[:, None] == codes[None]).all(2)
    places = torch.arange(len(context), device=context.device)
    wrong = similarity.masked_fill(is_same_code, -torch.inf).gather(1, negatives)
    logits = torch.cat([similarity[places, places, None], wrong], dim=1) / temperature
    loss = nn.functional.cross_entropy(logits, torch.zeros_like(places), reduction="sum")
    return Contrast(loss, (logits.argmax(1) == 0).sum().float())


def perplexity(
    code_sums: Float[Tensor, "groups codes"], num_masked: Float[Tensor, ""] | float
) -> Float[Tensor, " groups"]:
    """Exponential of the entropy of each book's mean code probabilities: 1 (one code) to the number of codes."""
    mean = code_sums / num_masked
    return torch.exp(-torch.xlogy(mean, mean).sum(1))


def diversity(
    code_sums: Float[Tensor, "groups codes"], num_masked: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """The fraction of the codes that the mean probabilities leave unused, 0 to 1.

    Baevski et al. 2020, equation 4, shifted and scaled to this range. It depends on the mean over all masked frames of a
    batch, so it is not a sum over parts of the batch.
    """
    return 1 - perplexity(code_sums, num_masked).sum() / code_sums.numel()


def diversity_weights(
    code_sums: Float[Tensor, "groups codes"], num_masked: Float[Tensor, ""] | float
) -> Float[Tensor, "groups codes"]:
    """The derivative of diversity by code_sums, taken at the sums of a whole batch.

    If each part of a batch, on this process or others, adds the product of these weights and its sums to its loss, the
    parts' gradients add up to the gradient of the whole batch's diversity.
    """
    sums = code_sums.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(diversity(sums, num_masked), sums)[0]
