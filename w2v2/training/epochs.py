"""The batches of all epochs of a training, drawn epoch by epoch."""

import functools
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int

from w2v2.config.model import OptimConfig, TrainingConfig
from w2v2.features.batches import ClipSet, shuffled_batches
from w2v2.training.optimizer import batch_size_at

Batches = list[Int[np.ndarray, " batch"]]


class Epochs:
    """The batches of each epoch, drawn when they are needed: with a million clips the batches of all epochs would take gigabytes."""

    def __init__(self, num_epochs: int, draw: Callable[[int], Batches]) -> None:
        self._num_epochs, self._draw = num_epochs, draw
        self._kept = functools.lru_cache(maxsize=2)(draw)  # of this epoch and the next

    def __len__(self) -> int:
        return self._num_epochs

    def __getitem__(self, epoch: int) -> Batches:
        return self._kept(epoch)

    def __iter__(self) -> Iterator[Batches]:
        return map(self._draw, range(self._num_epochs))


def epochs_of(train: ClipSet, *, optim: OptimConfig, training: TrainingConfig, seed: int) -> Epochs:
    """The epochs of a training on these clips."""

    def draw(epoch: int) -> Batches:
        size = batch_size_at(epoch, num_epochs=training.num_epochs, optim=optim)
        balance = train.targets if training.sampling == "balanced" else None
        return shuffled_batches(train.lengths, batch_size=size, seed=seed, epoch=epoch, balance=balance)

    return Epochs(training.num_epochs, draw)
