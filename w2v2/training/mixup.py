"""Mixup (Zhang et al. 2018, arXiv:1710.09412): training clips as shares of two clips of their batch."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from w2v2.features.batches import ClipSet

MIXUP = 0x6D6978
"""Makes these random numbers independent of the ones for the order of clips and for augmentation."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The clips of an optimizer step and, if they are mixed, each clip's partner and its share."""

    clips: Int[np.ndarray, " batch"]
    partners: Int[np.ndarray, " batch"] | None = None
    shares: Float[np.ndarray, " batch"] | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, places: Int[np.ndarray, " part"]) -> "Batch":
        """The part of the batch at these places."""
        if self.partners is None or self.shares is None:
            return Batch(clips=self.clips[places])
        return Batch(clips=self.clips[places], partners=self.partners[places], shares=self.shares[places])

    @property
    def needed(self) -> Int[np.ndarray, " clips"]:
        """The clips whose features the batch needs, partners included."""
        return self.clips if self.partners is None else np.concatenate([self.clips, self.partners])


def mixed_batch(
    clips: Int[np.ndarray, " batch"], *, alpha: float, seed: int, epoch: int, number: int
) -> Batch:
    """The batch with a partner from itself for each clip and shares from Beta(alpha, alpha); at alpha 0 it stays unmixed.

    Both depend on the seed, the epoch and the batch's number in it alone.
    """
    if not alpha:
        return Batch(clips=clips)
    rng = np.random.default_rng([seed, epoch, number, MIXUP])
    partners = clips[rng.permutation(len(clips))]
    return Batch(clips=clips, partners=partners, shares=rng.beta(alpha, alpha, len(clips)).astype(np.float32))


def mix(
    first: Float[Tensor, "*batch_and_dims"],
    second: Float[Tensor, "*batch_and_dims"],
    shares: Float[Tensor, "..."],
) -> Float[Tensor, "*batch_and_dims"]:
    """The sum share * first + (1 - share) * second, with a share for each row of the leading axes."""
    wide = shares.view(*shares.shape, *[1] * (first.ndim - shares.ndim))
    return wide * first + (1 - wide) * second


def mixed_features(
    clips: ClipSet, batch: Batch
) -> tuple[Float[Tensor, "batch ..."], Int[Tensor, " batch"], Float[Tensor, "batch descriptors"] | None]:
    """Features at the encoder's cut, their lengths, and hand-made features, mixed where the batch is.

    A mixture is as long as the longer of its two clips; past its end the shorter one counts as zeros.
    """
    (features, lengths), descriptors = clips.select(batch.clips), clips.descriptors_of(batch.clips)
    if batch.partners is None or batch.shares is None:
        return features, lengths, descriptors
    shares = torch.from_numpy(batch.shares)
    partners, other_lengths = clips.select(batch.partners)
    longest = max(features.shape[1], partners.shape[1])
    features, partners = (_padded(rows, longest) for rows in (features, partners))
    if descriptors is not None and clips.descriptors is not None:
        descriptors = mix(descriptors, torch.from_numpy(clips.descriptors[batch.partners]), shares)
    return mix(features, partners, shares), torch.maximum(lengths, other_lengths), descriptors


def mixed_targets(
    targets: Shaped[np.ndarray, "clips ..."], batch: Batch, *, num_outputs: int
) -> Shaped[Tensor, "batch ..."]:
    """The targets of a batch; in a mixed batch classes are rows of shares, and a target that one of the two clips lacks is NaN.

    A loss that is linear in its targets, as cross entropies are, is then the weighted sum of the losses of both clips.
    """
    first = torch.from_numpy(targets[batch.clips])
    if batch.partners is None or batch.shares is None:
        return first
    second = torch.from_numpy(targets[batch.partners])
    if not first.is_floating_point():
        first, second = (nn.functional.one_hot(numbers, num_outputs).float() for numbers in (first, second))
    return mix(first, second, torch.from_numpy(batch.shares))


def _padded(rows: Float[Tensor, "batch frames ..."], length: int) -> Float[Tensor, "batch longest ..."]:
    """The rows with zeros after their ends."""
    if rows.shape[1] == length:
        return rows
    more = rows.new_zeros(len(rows), length - rows.shape[1], *rows.shape[2:])
    return torch.cat([rows, more], dim=1)
