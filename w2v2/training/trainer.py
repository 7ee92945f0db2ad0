"""One training in progress: its steps, on one process or on each of several that share every batch."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from w2v2.config.model import OptimConfig, TaskConfig, TrainingConfig
from w2v2.config.resources import Precision
from w2v2.evaluation import classification
from w2v2.features.batches import ClipSet, FetchedFeatures, PerEpochFeatures
from w2v2.models.classifier import Classifier
from w2v2.models.ctc import SpeechModel, Transcriber
from w2v2.models.device import on_device, pinned, prepared_ahead, to_device
from w2v2.models.malloc import malloc_keeps_freed_memory
from w2v2.models.objective import Outputs, make_objective
from w2v2.training import optimizer
from w2v2.training.epochs import epochs_of
from w2v2.training.fold_result import DivergenceError, Epoch
from w2v2.training.forward import device_for, memory_hint, predict_logits
from w2v2.training.gradients import check_gradients
from w2v2.training.mixup import Batch, mixed_batch, mixed_features, mixed_targets
from w2v2.training.optimizer import make_optimizer
from w2v2.training.position import Pass, Position
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trained_weights import trained_state
from w2v2.training.transcription import transcript_loss

NUM_AHEAD = 4
"""Batches whose features are fetched before they are needed."""
NUM_UNCOUNTED = 64
"""Passes whose sums may stay on a GPU."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Clips of one pass of the model, on the CPU."""

    inputs: list[Tensor]
    """Features, lengths and, if a model joins them, hand-made features."""
    targets: Shaped[Tensor, "batch ..."]


class Trainer:
    """A model in training: takes the optimizer's steps, and holds the state from which training resumes after any of them."""

    def __init__(
        self,
        model: SpeechModel,
        train: ClipSet,
        *,
        optim: OptimConfig,
        training: TrainingConfig,
        precision: Precision = "float32",
        seed: int,
        task: TaskConfig | None = None,
        group: ProcessGroup | None = None,
        val: ClipSet | None = None,
    ) -> None:
        self.model, self.train, self.val = model, train, val
        self.optim, self.training, self.seed = optim, training, seed
        self.precision = precision
        self.task = task or TaskConfig()
        self.group = group or ProcessGroup()
        self.device = device_for(precision)
        torch.manual_seed(seed + 7919 * self.group.rank)
        model.to(self.device).train()
        model.encoder.mask_time_fraction = training.mask_time_fraction
        model.encoder.mask_feature_fraction = training.mask_feature_fraction
        self.optimizer = make_optimizer(model, optim)
        self._peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        blank = model.blank if isinstance(model, Transcriber) else 0
        objective = make_objective(
            self.task, training, train.targets, num_outputs=model.num_outputs, blank=blank
        )
        self.objective = replace(objective, class_weights=objective.class_weights.to(self.device))
        self._weight_of = objective.weight  # on the CPU, where targets are, without waiting for a GPU
        several = self.group.size > 1
        self.network: nn.Module = nn.parallel.DistributedDataParallel(model) if several else model
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._is_checked = False
        self._plan = epochs_of(train, optim=optim, training=training, seed=seed)
        self.num_steps = sum(len(batches) for batches in self._plan)
        self._at = Position()
        self._uncounted: list[Pass] = []
        self.best: dict[str, Tensor] = {}
        """The trained weights after the best epoch, if training.patience_epochs is set."""

    @property
    def position(self) -> Position:
        """The position of the training, after the sums of all passes have been added."""
        self._sum_up()
        return self._at

    @position.setter
    def position(self, position: Position) -> None:
        self._at, self._uncounted = position, []

    @property
    def step(self) -> int:
        """The optimizer steps that are done."""
        return self._at.step

    def _sum_up(self) -> None:
        for done in self._uncounted:
            done.count(self._at)
        self._uncounted = []

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        at, patience = self._at, self.training.patience_epochs
        return at.epoch == len(self._plan) or bool(patience and at.epoch - at.best_epoch >= patience)

    @malloc_keeps_freed_memory()
    def run(
        self,
        *,
        on_step: Callable[["Trainer"], None] = lambda trainer: None,
        on_epoch: Callable[["Trainer"], None] = lambda trainer: None,
    ) -> list[Epoch]:
        """The learning curve, once `model` has been trained from the position on to its end.

        Raises DivergenceError when the loss is not finite, UserError when the GPU's memory does not suffice.
        """
        at = self._at
        while not self.ended:
            if isinstance(self.train.features, PerEpochFeatures):
                self.train.features.epoch = at.epoch
            num_batches = len(self._plan[at.epoch])
            for parts in prepared_ahead(self._load, self._numbers(at.batch, num_batches), self.device):
                with memory_hint():
                    self._step(self._batch(at.batch), parts)
                at.batch, at.step = at.batch + 1, at.step + 1
                if at.batch < num_batches:
                    on_step(self)
            self._end_epoch()
            on_epoch(self)
        if self.best:
            self.model.load_state_dict(self.best, strict=False)
        return at.curve

    def _numbers(self, first: int, end: int) -> Iterator[int]:
        """The numbers of the epoch's batches from first on; the features of each and of the next ones begin to load."""
        for number in range(first, end):
            if isinstance(self.train.features, FetchedFeatures):
                coming = [self._share(self._batch(n)) for n in range(number, min(number + NUM_AHEAD, end))]
                self.train.features.expect(np.concatenate([share.needed for share in coming]))
            yield number

    def _batch(self, number: int) -> Batch:
        """A batch of the present epoch, mixed where training.mixup_alpha asks for it."""
        epoch = self._at.epoch
        return mixed_batch(
            self._plan[epoch][number],
            alpha=self.training.mixup_alpha,
            seed=self.seed,
            epoch=epoch,
            number=number,
        )

    def _share(self, batch: Batch) -> Batch:
        """This process's part of a batch."""
        return batch.take(self.group.share(np.arange(len(batch))))

    def _parts(self, batch: Batch) -> list[Batch]:
        """This process's parts of a batch, pass by pass.

        A process without a clip of this batch takes one clip that does not count, to stay in step.
        """
        share = self._share(batch)
        if not len(share):
            return [batch.take(np.arange(1))]
        if self.objective.is_batch_level:
            return [share]
        places = np.array_split(np.arange(len(share)), min(self.optim.accumulation_steps, len(share)))
        return [share.take(part) for part in places]

    def _load(self, number: int) -> list[_Part]:
        """The parts of a batch of the present epoch, with their features."""
        return [self._loaded(part) for part in self._parts(self._batch(number))]

    def _loaded(self, part: Batch) -> _Part:
        features, lengths, descriptors = mixed_features(self.train, part)
        others = [] if descriptors is None else [pinned(descriptors, self.device)]
        return _Part(inputs=[pinned(features, self.device), lengths, *others], targets=self._targets(part))

    def _step(self, batch: Batch, parts: list[_Part]) -> None:
        """One optimizer step on this process's parts of `batch`."""
        scale = optimizer.learning_rate_scale(self._at.step, num_steps=self.num_steps, optim=self.optim)
        for group, peak in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * scale
        self.optimizer.zero_grad(set_to_none=True)
        if self.objective.is_batch_level:
            self._backward_whole(batch, parts[0])
        else:
            self._backward_in_parts(batch, parts)
        if not self._is_checked:
            check_gradients(self.model)
            self._is_checked = True
        if self.optim.clip_norm:
            nn.utils.clip_grad_norm_(self._trained, self.optim.clip_norm)
        self.optimizer.step()

    def _backward_in_parts(self, batch: Batch, parts: list[_Part]) -> None:
        """Gradients of a loss that adds up over clips, in accumulation_steps parts."""
        batch_weight = self._weight_of(self._targets(batch)) or 1.0
        counts = min(1, len(self._share(batch)))
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            hold = not last and self.group.size > 1
            with self.network.no_sync() if hold else contextlib.nullcontext():  # type: ignore[operator]
                outputs = self._forward(part)
                loss = self.objective.loss_sum(outputs, to_device(part.targets, self.device))
                # DDP averages gradients over processes; times their number it is the sum over the whole batch.
                (loss * (counts * self.group.size / batch_weight)).backward()
            if counts:
                self._count(outputs, part.targets, loss)

    def _backward_whole(self, batch: Batch, part: _Part) -> None:
        """Gradients of a loss over the whole batch: each process has all outputs, and gradients for its share."""
        num = len(self._share(batch))
        outputs = self._forward(part)
        assert isinstance(outputs, Tensor), "the loss of frames adds up over clips"
        share_outputs = outputs[:num]
        whole = self.group.whole(share_outputs, len(batch))
        batch_targets = to_device(self._targets(batch), self.device)
        loss = self.objective.whole_batch_loss(whole, batch_targets) + 0.0 * outputs.sum()
        (loss * self.group.size).backward()
        targets = part.targets[:num]
        self._count(
            share_outputs, targets, self.objective.loss_sum(share_outputs, to_device(targets, self.device))
        )

    def _targets(self, batch: Batch) -> Shaped[Tensor, "batch ..."]:
        return mixed_targets(self.train.targets, batch, num_outputs=self.model.num_outputs)

    def _forward(self, part: _Part) -> Outputs:
        inputs = on_device(self.device, *part.inputs)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.network(*inputs)

    def _count(self, outputs: Outputs, targets: Shaped[Tensor, "batch ..."], loss: Tensor) -> None:
        """Add clips to the sums of the epoch; sums on a GPU are added later, as the program would wait for them here."""
        predicted = None
        if self.task.kind == "classes" and isinstance(outputs, Tensor):
            predicted = outputs.detach().argmax(1)
        self._uncounted.append(
            Pass(
                loss=loss.detach(),
                weight=self._weight_of(targets),
                predicted=predicted,
                targets=targets,
                num_outputs=self.model.num_outputs,
            )
        )
        if self.device.type == "cpu" or len(self._uncounted) > NUM_UNCOUNTED:
            self._sum_up()

    def _end_epoch(self) -> None:
        """Close the epoch's sums into a point of the curve, and keep the weights if they are the best yet."""
        at = self.position  # with all sums
        num = self.model.num_outputs if self.task.kind == "classes" else 0
        confusion = np.array(at.confusion) if at.confusion else np.zeros((num, num))
        flat = [at.loss, at.weight, *confusion.ravel()]
        sums = self.group.sum(torch.tensor(flat, dtype=torch.float64, device=self.device))
        loss, weight, *counts = sums.tolist()
        train_loss = loss / weight if weight else float("nan")
        if not np.isfinite(train_loss):
            raise DivergenceError(
                f"the training loss is {train_loss} in epoch {at.epoch + 1}, by step {at.step}"
            )
        val_loss = self._val_loss()
        point = Epoch(
            epoch=at.epoch + 1,
            train_loss=train_loss,
            train_uar=_uar(counts, num) if num else None,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            val_loss=val_loss,
        )
        before = [p.val_loss for p in at.curve if p.val_loss is not None]
        at.curve.append(point)
        at.epoch, at.batch, at.loss, at.weight, at.confusion = at.epoch + 1, 0, 0.0, 0.0, []
        if self.training.patience_epochs and val_loss is not None and val_loss < min(before, default=np.inf):
            at.best_epoch = at.epoch
            self.best = {name: value.detach().clone() for name, value in trained_state(self.model).items()}

    def _val_loss(self) -> float | None:
        if self.val is None:
            return None
        if isinstance(self.model, Transcriber):
            loss = transcript_loss(
                self.model, self.val, self.objective, precision=self.precision, group=self.group
            )
        else:
            outputs = predict_logits(self.model, self.val, precision=self.precision, group=self.group)
            loss = self.objective.score(outputs, self.val.targets)
        self.model.train()
        return loss


def _uar(counts: Sequence[float], num_classes: int) -> float | None:
    confusion = np.array(counts).reshape(num_classes, num_classes).round().astype(np.int64)
    return classification.rates(confusion)["uar"]


def train(
    model: Classifier,
    train_set: ClipSet,
    *,
    optim: OptimConfig,
    training: TrainingConfig,
    precision: Precision = "float32",
    seed: int,
    group: ProcessGroup | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """The learning curve of training a classifier in place on `train_set` for all epochs.

    The same seed on the same machine gives the same weights bit for bit. Several processes give the
    weights of one process to float rounding: each takes its share of every batch. Raises DivergenceError when
    the loss is not finite, UserError when the GPU's memory does not suffice.
    """
    trainer = Trainer(
        model, train_set, optim=optim, training=training, precision=precision, seed=seed, group=group
    )
    return trainer.run(on_epoch=lambda trainer: on_epoch(trainer.position.curve[-1]))
