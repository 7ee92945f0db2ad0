"""The random draws of heads trained on folds, shared by all trials of one stack: batches and dropout masks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from w2v2.config.model import HeadConfig, OptimConfig, TaskConfig, TrainingConfig
from w2v2.features.batches import shuffled_batches
from w2v2.models.objective import Objective, make_objective
from w2v2.training.mixup import Batch, mixed_batch, mixed_targets
from w2v2.training.optimizer import batch_size_at

PER_TRIAL = {
    *("learning_rate", "layer_decay", "weight_decay", "beta1", "beta2", "eps", "amsgrad"),
    *("schedule", "warmup_fraction", "clip_norm"),
}
"""Fields of optim that may differ between trials of one stack."""
MAX_KEPT_BYTES = 2**27
"""The most bytes of the draws of one stack; larger draws are made again for each stack of trials."""
MAX_DRAWN_BYTES = 2**24
"""The most bytes of steps that are drawn together: a whole epoch of most corpora."""


@dataclass(frozen=True, kw_only=True)
class PooledClips:
    """Clips whose encoder is frozen: one vector each, or one for each of several layers."""

    vectors: Float[Tensor, "clips ..."]
    lengths: Int[np.ndarray, " clips"]
    """Samples of audio; clips of similar length share a batch."""
    targets: Int[np.ndarray, " clips"]
    clip_ids: pa.StringArray
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The rows of the training clips and of the held-out clips, and the seed of the fold's draws."""

    number: int
    train: Int[np.ndarray, " clips"]
    held_out: Int[np.ndarray, " held_out"]
    seed: int


@dataclass(frozen=True)
class StackSettings:
    """The settings that trials must share to be trained side by side."""

    head: HeadConfig
    training: TrainingConfig
    optim: OptimConfig
    mixes: bool
    """Whether the head mixes several layers."""

    @classmethod
    def of(
        cls, *, head: HeadConfig, training: TrainingConfig, optim: OptimConfig, mixes: bool
    ) -> "StackSettings":
        """The settings that a trial shares with the other trials of its stack."""
        usual = OptimConfig()
        return cls(
            head, training, replace(optim, **{name: getattr(usual, name) for name in PER_TRIAL}), mixes
        )


@dataclass(frozen=True, kw_only=True)
class StepsDraw:
    """Steps of an epoch on all folds, padded: a fold with fewer steps than others has no rows in the last ones."""

    rows: Int[Tensor, "steps folds batch"]
    partners: Int[Tensor, "steps folds batch"] | None
    """The rows that are mixed into them; None without mixup."""
    shares: Float[Tensor, "steps folds batch"] | None
    """The shares of the rows in their mixtures."""
    targets: Int[np.ndarray, "steps folds batch"]
    """The class of each row; for a mixture, the class of its larger part."""
    num_rows: Int[np.ndarray, "steps folds"]
    """Rows that are no padding."""
    loss: Float[Tensor, "steps folds batch classes"]
    """The factor of each log probability in the sum of the losses; 0 on padding."""
    of_batch: Float[Tensor, "steps folds"]
    """The factor that turns a step's sum of losses into the loss of the batch."""
    weight: Float[np.ndarray, "steps folds"]
    """A step's part of the divisor that turns the epoch's sum of losses into their mean."""
    kept: list[Bool[Tensor, "steps folds batch _"]]
    """The inputs of each linear layer that dropout keeps; empty without dropout."""


class FoldDraws:
    """The epochs of some folds, drawn as `trainer.Trainer` and nn.Dropout draw them for each fold alone."""

    def __init__(self, clips: PooledClips, folds: Sequence[Fold], settings: StackSettings) -> None:
        self.clips, self.folds, self.settings = clips, folds, settings
        size = clips.vectors.shape[-1] if settings.mixes else clips.vectors[0].numel()
        self.widths = [size, *settings.head.widths, clips.num_classes]
        targets = [clips.targets[fold.train] for fold in folds]
        self._objectives = [
            make_objective(TaskConfig(), settings.training, t, num_outputs=clips.num_classes) for t in targets
        ]
        sizes = [
            batch_size_at(epoch, num_epochs=settings.training.num_epochs, optim=settings.optim)
            for epoch in range(settings.training.num_epochs)
        ]
        of_folds = [[-(-len(fold.train) // size) for size in sizes] for fold in folds]
        self.num_steps = [sum(of_epochs) for of_epochs in of_folds]
        """Optimizer steps of each fold."""
        self.even = all(of_epochs == of_folds[0] for of_epochs in of_folds)
        """Whether all folds have the same number of steps in every epoch."""
        self._kept: list[list[StepsDraw]] = []

    def epochs(self) -> Iterator[Iterable[StepsDraw]]:
        """The steps of each epoch in order, as many at a time as fit into MAX_DRAWN_BYTES; the same at every call.

        All of an epoch must be taken before the next one.
        """
        if self._kept:
            yield from self._kept
            return
        num_epochs = self.settings.training.num_epochs
        keeps = self._num_bytes() * num_epochs <= MAX_KEPT_BYTES
        generators = [torch.Generator().manual_seed(fold.seed) for fold in self.folds]
        kept = []
        for epoch in range(num_epochs):
            steps = self._epoch(epoch, generators)
            if keeps:
                kept.append(list(steps))
            yield kept[-1] if keeps else steps
        self._kept = kept

    def _epoch(self, epoch: int, generators: Sequence[torch.Generator]) -> Iterator[StepsDraw]:
        batches = [self._fold_batches(fold, epoch) for fold in self.folds]
        size = batch_size_at(epoch, num_epochs=self.settings.training.num_epochs, optim=self.settings.optim)
        size = min(size, len(self.clips.targets))  # independent of the folds, as sums may depend on it
        num_steps = max(len(of_fold) for of_fold in batches)
        at_once = max(1, MAX_DRAWN_BYTES * num_steps // max(1, self._num_bytes()))
        for first in range(0, num_steps, at_once):
            steps = range(first, min(first + at_once, num_steps))
            yield self._steps(epoch, steps, size, batches, generators)

    def _num_bytes(self) -> int:
        """About what the draws of an epoch take."""
        dropout = sum(self.widths[:-1]) if self.settings.head.dropout else 0
        return sum(len(fold.train) for fold in self.folds) * (dropout + 16 + 4 * self.clips.num_classes)

    def _fold_batches(self, fold: Fold, epoch: int) -> list[Int[np.ndarray, " _"]]:
        """The rows of each batch of a fold's epoch."""
        training = self.settings.training
        batches = shuffled_batches(
            self.clips.lengths[fold.train],
            batch_size=batch_size_at(epoch, num_epochs=training.num_epochs, optim=self.settings.optim),
            seed=fold.seed,
            epoch=epoch,
            balance=self.clips.targets[fold.train] if training.sampling == "balanced" else None,
        )
        return [fold.train[batch] for batch in batches]

    def _mixed(self, fold: int, epoch: int, step: int, batch: Int[np.ndarray, " _"]) -> Batch:
        """A batch of a fold, mixed as `trainer.Trainer` mixes it."""
        return mixed_batch(
            batch,
            alpha=self.settings.training.mixup_alpha,
            seed=self.folds[fold].seed,
            epoch=epoch,
            number=step,
        )

    def _steps(
        self,
        epoch: int,
        steps: range,
        size: int,
        batches: Sequence[Sequence[np.ndarray]],
        generators: Sequence[torch.Generator],
    ) -> StepsDraw:
        """These steps of an epoch with these batches, padded to size clips."""
        num_classes, mixes = self.clips.num_classes, bool(self.settings.training.mixup_alpha)
        rows = np.zeros((len(steps), len(batches), size), np.int64)
        partners, shares = np.zeros_like(rows), np.zeros(rows.shape, np.float32)
        targets = torch.zeros(*rows.shape, num_classes)
        num_rows = np.zeros((len(steps), len(batches)), np.int64)
        of_batch = np.zeros((len(steps), len(batches)), np.float32)
        weight = np.zeros((len(steps), len(batches)))
        for index, of_fold in enumerate(batches):
            for step, batch in enumerate(of_fold[steps.start : steps.stop]):
                mixed = self._mixed(index, epoch, steps[step], batch)
                rows[step, index, : len(batch)] = batch
                num_rows[step, index] = len(batch)
                if mixed.partners is not None:
                    partners[step, index, : len(batch)] = mixed.partners
                    shares[step, index, : len(batch)] = mixed.shares
                batch_targets = mixed_targets(self.clips.targets, mixed, num_outputs=num_classes)
                batch_weight = self._objectives[index].weight(batch_targets)
                targets[step, index, : len(batch)] = _shares_of_classes(batch_targets, num_classes)
                of_batch[step, index] = 1.0 / (batch_weight or 1.0)
                weight[step, index] = batch_weight
        inside = torch.from_numpy(np.arange(size) < num_rows[..., None])
        loss = [_loss_weight(targets[:, index], o) for index, o in enumerate(self._objectives)]
        return StepsDraw(
            rows=torch.from_numpy(rows),
            partners=torch.from_numpy(partners) if mixes else None,
            shares=torch.from_numpy(shares) if mixes else None,
            targets=targets.argmax(-1).numpy(),
            num_rows=num_rows,
            loss=-torch.stack(loss, dim=1) * inside[..., None],
            of_batch=torch.from_numpy(of_batch),
            weight=weight,
            kept=self._dropout(num_rows, size, generators),
        )

    def _dropout(
        self, num_rows: Int[np.ndarray, "steps folds"], size: int, generators: Sequence[torch.Generator]
    ) -> list[Tensor]:
        probability = 1.0 - self.settings.head.dropout
        if probability == 1.0:
            return []
        kept = [torch.zeros(*num_rows.shape, size, width, dtype=torch.bool) for width in self.widths[:-1]]
        for step, of_folds in enumerate(num_rows.tolist()):
            for index, number in enumerate(of_folds):
                for of_layer in kept if number else []:
                    of_layer[step, index, :number].bernoulli_(probability, generator=generators[index])
        return kept


def _shares_of_classes(
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"], num_classes: int
) -> Float[Tensor, "batch classes"]:
    """A row of shares of the classes for each target, a number or such a row."""
    return nn.functional.one_hot(targets, num_classes).float() if targets.ndim == 1 else targets


def _loss_weight(
    targets: Float[Tensor, "steps batch classes"], objective: Objective
) -> Float[Tensor, "steps batch classes"]:
    """The weights in `losses.cross_entropy_sum`: of the targets, and of all classes if labels are smoothed."""
    of_class, smoothing = objective.class_weights, objective.label_smoothing
    return of_class * (targets * (1.0 - smoothing) + smoothing / len(of_class))
