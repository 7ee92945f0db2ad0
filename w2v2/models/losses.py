"""Losses as sums and weights, so that parts of a batch add up to the whole."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def balanced_class_weights(targets: Int[np.ndarray, " clips"], num_classes: int) -> Float[Tensor, " classes"]:
    """N / (classes present * n_class), as scikit-learn's 'balanced'; 0 for a class without clips.

    >>> balanced_class_weights(np.array([0, 0, 0, 1]), 3)
    tensor([0.6667, 2.0000, 0.0000])
    """
    counts = np.bincount(targets, minlength=num_classes)
    weights = np.divide(
        len(targets), counts * np.count_nonzero(counts), where=counts > 0, out=np.zeros(num_classes)
    )
    return torch.tensor(weights, dtype=torch.float32)


def cross_entropy_sum(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    *,
    class_weights: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Weighted cross entropies in nats, summed over the batch; divide by the sum of the targets' weights.

    Targets are numbers of classes, or a row of shares of the classes each.
    """
    return nn.functional.cross_entropy(
        logits.float(), targets, weight=class_weights, label_smoothing=label_smoothing, reduction="sum"
    )


def bce_sum(
    logits: Float[Tensor, "batch labels"], targets: Float[Tensor, "batch labels"]
) -> Float[Tensor, ""]:
    """Binary cross entropies in nats, summed over the targets that are not NaN; divide by their number.

    Targets are 1, 0 or NaN (missing), which gives neither loss nor gradient.
    """
    present, filled = _present(targets)
    losses = nn.functional.binary_cross_entropy_with_logits(_wide(logits), filled, reduction="none")
    return torch.where(present, losses, 0.0).sum()


def mse_sum(
    outputs: Float[Tensor, "batch targets"], targets: Float[Tensor, "batch targets"]
) -> Float[Tensor, ""]:
    """Squared differences, summed over the targets that are not NaN; divide by their number.

    NaN targets are missing and give neither loss nor gradient.
    """
    present, filled = _present(targets)
    return torch.where(present, _wide(outputs) - filled, 0.0).square().sum()


def variance_penalty(
    outputs: Float[Tensor, "batch targets"], targets: Float[Tensor, "batch targets"]
) -> Float[Tensor, ""]:
    """max(0, 1 - std of outputs / std of targets)^2 over the batch's targets that are not NaN, mean over the targets.

    A target that is constant in the batch, or not NaN in fewer than two clips, counts as 0. The gradient of
    outputs without any spread is 0, as no direction is better than another. Compare the variance term of VICReg
    (Bardes et al. 2022, arXiv:2105.04906).
    """
    present, filled = _present(targets)
    spread = torch.linalg.vector_norm(_centred(_wide(outputs), present), dim=0)
    wanted = torch.linalg.vector_norm(_centred(filled, present), dim=0)
    varies = _varies(filled, present)
    lack = nn.functional.relu(1 - spread / torch.where(varies, wanted, 1.0))
    return torch.where(varies, lack.square(), 0.0).mean()


def correlation_penalty(outputs: Float[Tensor, "batch targets"]) -> Float[Tensor, ""]:
    """Squared Pearson correlation of two outputs over the batch, mean over all pairs of outputs.

    It is 0, without gradient, for a pair with an output that is constant in the batch (its spread is below the rounding
    of its values), for fewer than two clips, and for a single output.
    """
    num_clips, num_outputs = outputs.shape
    wide = _wide(outputs)
    if num_clips < 2 or num_outputs < 2:
        return 0.0 * wide.sum()
    centred = wide - wide.mean(0)
    norm = torch.linalg.vector_norm(centred, dim=0)
    # A smaller spread is rounding errors: their correlation means nothing, and its gradient (about 1 / spread) is huge.
    floor = 8 * torch.finfo(wide.dtype).eps * num_clips**0.5 * wide.detach().abs().amax(0)
    varies = norm > floor
    unit = torch.where(varies, centred / torch.where(varies, norm, 1.0), 0.0)
    return (unit.T @ unit).triu(1).square().sum() / (num_outputs * (num_outputs - 1) / 2)


def concordance_loss(
    outputs: Float[Tensor, "batch targets"], targets: Float[Tensor, "batch targets"]
) -> Float[Tensor, ""]:
    """1 - CCC over the batch's targets that are not NaN, mean over the targets that vary in the batch.

    CCC is 2 cov / (var t + var p + (mean t - mean p)^2) with population moments (Lin 1989). 0 where no
    target varies.
    """
    present, filled = _present(targets)
    p, t = _centred(_wide(outputs), present), _centred(filled, present)
    num_present = present.sum(0).clamp(min=1)
    apart = torch.where(present, _wide(outputs) - filled, 0.0).sum(0) / num_present
    varies = _varies(filled, present)
    # All moments times the number of clips.
    whole = t.square().sum(0) + p.square().sum(0) + num_present * apart.square()
    lack = 1 - 2 * (p * t).sum(0) / torch.where(varies, whole, 1.0)
    return torch.where(varies, lack, 0.0).sum() / varies.sum().clamp(min=1)


def _wide(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _present(targets: Float[Tensor, "*shape"]) -> tuple[Bool[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """A mask of the targets that are not NaN, and the targets with 0 in place of NaN: NaN times zero would still be NaN."""
    present = ~targets.isnan()
    return present, torch.where(present, _wide(targets), 0.0)


def _centred(
    values: Float[Tensor, "batch targets"], present: Bool[Tensor, "batch targets"]
) -> Float[Tensor, "batch targets"]:
    """The values minus their column's mean over the entries that are not NaN; 0 where they are NaN."""
    mean = torch.where(present, values, 0.0).sum(0) / present.sum(0).clamp(min=1)
    return torch.where(present, values - mean, 0.0)


def _varies(
    targets: Float[Tensor, "batch targets"], present: Bool[Tensor, "batch targets"]
) -> Bool[Tensor, " targets"]:
    """Columns with two different entries that are not NaN."""
    if len(targets) == 0:
        return torch.zeros(targets.shape[1], dtype=torch.bool, device=targets.device)
    infinite = torch.full_like(targets, torch.inf)
    return torch.where(present, targets, -infinite).amax(0) > torch.where(present, targets, infinite).amin(0)
