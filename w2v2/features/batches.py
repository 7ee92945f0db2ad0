"""Clips as batches: grouped by length, in an order that depends on the seed and the epoch alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

WINDOW_BATCHES = 50
"""The number of batches whose clips are sorted by length together, for little padding in a nearly random order."""


@runtime_checkable
class Features(Protocol):
    """The output of the encoder's trunk at the cut, one array per clip, frames first."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Float[np.ndarray, "frames ..."]: ...


@runtime_checkable
class FetchedFeatures(Protocol):
    """Features that take time to load and accept a hint which clips are needed next."""

    def expect(self, indices: Int[np.ndarray, " clips"] | Sequence[int]) -> None:
        """Begin to load these clips."""
        ...


@runtime_checkable
class PerEpochFeatures(Protocol):
    """Features that differ from epoch to epoch because of augmentation."""

    epoch: int


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Clips to train on or to score: features, their lengths and targets, in one order."""

    features: Features
    lengths: Int[np.ndarray, " clips"]
    targets: Shaped[np.ndarray, "clips ..."]
    """Numbers of classes (int64), or a row of labels or values each (float32, NaN where missing)."""
    descriptors: Float[np.ndarray, "clips descriptors"] | None = None
    """Hand-made features that a model joins."""

    def __len__(self) -> int:
        return len(self.targets)

    def select(
        self, indices: Int[np.ndarray, " batch"]
    ) -> tuple[Float[Tensor, "batch ..."], Int[Tensor, " batch"]]:
        """Features of some clips, padded with zeros, and their lengths (in frames, or samples at the waveform cut)."""
        return collate([self.features[int(index)] for index in indices])

    def descriptors_of(self, indices: Int[np.ndarray, " batch"]) -> Float[Tensor, "batch descriptors"] | None:
        """Hand-made features of some clips; None if the clip set has none."""
        return None if self.descriptors is None else torch.from_numpy(self.descriptors[indices])


def shuffled_batches(
    lengths: Int[np.ndarray, " clips"],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    balance: Int[np.ndarray, " clips"] | None = None,
) -> list[Int[np.ndarray, " batch"]]:
    """Every clip once, in batches of `batch_size` (the last may be smaller) of similar length.

    With `balance`, the class of each clip, as many clips are drawn with replacement, each class equally likely.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    if balance is not None:
        share = 1 / np.bincount(balance)[balance] / len(np.unique(balance))
        order = rng.choice(len(lengths), size=len(lengths), p=share)
    window = WINDOW_BATCHES * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, len(order), window):
        chunk = order[start : start + window]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
    return [batches[index] for index in rng.permutation(len(batches))]


def batches_by_seconds(
    num_samples: Int[np.ndarray, " clips"], *, max_samples: int, seed: int, epoch: int
) -> list[Int[np.ndarray, " batch"]]:
    """Every clip once, in batches of clips of similar length, with at most `max_samples` samples or one clip each."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(num_samples))
    window = max(1, round(WINDOW_BATCHES * max_samples / max(1.0, float(num_samples.mean()))))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), window):
        chunk = order[start : start + window]
        chunk = chunk[np.argsort(num_samples[chunk], kind="stable")]
        batches += np.split(chunk, _cuts(num_samples[chunk], max_samples))
    return [batches[index] for index in rng.permutation(len(batches))]


def _cuts(num_samples: Int[np.ndarray, " clips"], max_samples: int) -> list[int]:
    """The first clip of each run of clips whose samples add up to at most max_samples."""
    cuts, total = [], 0
    for place, samples in enumerate(num_samples.tolist()):
        if total and total + samples > max_samples:
            cuts.append(place)
            total = 0
        total += samples
    return cuts


def batches_by_budget(
    lengths: Int[np.ndarray, " clips"], *, max_padded: int
) -> list[Int[np.ndarray, " batch"]]:
    """Every clip once, shortest first, in batches whose padded length sum stays within `max_padded`.

    A clip that is longer than `max_padded` is a batch of its own.

    >>> [batch.tolist() for batch in batches_by_budget(np.array([3, 1, 2, 9]), max_padded=6)]
    [[1, 2], [0], [3]]
    """
    batches: list[list[int]] = [[]]
    for index in np.argsort(lengths, kind="stable"):
        if batches[-1] and (len(batches[-1]) + 1) * int(lengths[index]) > max_padded:
            batches.append([])
        batches[-1].append(int(index))
    return [np.array(batch, dtype=np.int64) for batch in batches if batch]


def scoring_batches(
    lengths: Int[np.ndarray, " clips"], *, num_longest: int = 8, longest: int = 0
) -> list[Int[np.ndarray, " batch"]]:
    """Every clip once, in batches that with padding are no larger than `num_longest` clips of the greatest length.

    That is the length of the longest clip, or `longest` if that is greater.
    """
    longest = longest or int(lengths.max(initial=1))
    return batches_by_budget(lengths, max_padded=longest * num_longest)


def collate(
    arrays: Sequence[Float[np.ndarray, "_ ..."]],
) -> tuple[Float[Tensor, "batch ..."], Int[Tensor, " batch"]]:
    """Arrays padded with zeros at the end of their first axis, in float32, and their lengths.

    In a process that uses a GPU they are in pinned memory, which the GPU copies by itself.
    """
    lengths = [len(array) for array in arrays]
    shape = (len(arrays), max(lengths), *arrays[0].shape[1:])
    padded = torch.empty(shape, dtype=torch.float32, pin_memory=torch.cuda.is_initialized())
    for row, array in zip(padded.numpy(), arrays, strict=True):
        row[: len(array)] = array
        row[len(array) :] = 0
    return padded, torch.tensor(lengths)
