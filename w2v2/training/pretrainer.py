"""One pre-training in progress: its steps, on one process or on each of several that share every batch."""

import contextlib
import logging
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.pretrain import PretrainConfig
from w2v2.errors import UserError
from w2v2.features.batches import FetchedFeatures, batches_by_budget, batches_by_seconds
from w2v2.models.contrastive import diversity_weights
from w2v2.models.device import padded_budget, to_device
from w2v2.models.malloc import malloc_keeps_freed_memory
from w2v2.models.masking import VALIDATION
from w2v2.models.pretraining import ContrastiveModel, PretrainingModel, Sums
from w2v2.training.collapse import Alarms, StepReading, is_finite
from w2v2.training.epochs import Batches, Epochs
from w2v2.training.fold_result import DivergenceError
from w2v2.training.forward import device_for, memory_hint
from w2v2.training.optimizer import learning_rate_scale, make_optimizer
from w2v2.training.pretrain_position import PretrainPosition
from w2v2.training.pretraining_batches import (
    BatchDrawer,
    BatchesAhead,
    Inputs,
    PretrainClips,
    Totals,
)
from w2v2.training.process_group import ProcessGroup

logger = logging.getLogger(__name__)

NUM_FETCHED = 4
"""Batches whose features are fetched before they are needed."""
NUM_MADE = 2
"""Batches that are padded and drawn for while others are trained on, the present one included."""
NUM_STEP_ROWS = 500
"""About how many steps of a whole training are kept for its curves."""
ANNEALED_FRACTION = 0.7
"""The fraction of the steps after which the Gumbel temperature reaches its end, unless quantizer.gumbel_decay is set."""


class CollapseError(UserError):
    """Raised when the codes collapse, or only their diversity is learned; the message names the setting to change."""


class Pretrainer:
    """A model in pre-training: takes the optimizer's steps, and holds the state from which it resumes after any of them."""

    def __init__(
        self,
        model: PretrainingModel,
        train: PretrainClips,
        config: PretrainConfig,
        *,
        val: PretrainClips | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        self.model, self.config = model, config
        self.group = group or ProcessGroup()
        self.device = device_for(config.resources.precision)
        torch.manual_seed(config.seed + 7919 * self.group.rank)
        model.to(self.device).train()
        self._optim = config.optim.at(config.optim.learning_rate)
        self.optimizer = make_optimizer(model, self._optim)
        several = self.group.size > 1
        self.network: nn.Module = nn.parallel.DistributedDataParallel(model) if several else model
        self._train = BatchDrawer(train, model, config)
        self.ahead = BatchesAhead(self._train)
        self._val = None if val is None else BatchDrawer(val, model, config)
        self._plan = _epochs(self._train.num_samples, config)
        self.num_steps = sum(len(batches) for batches in self._plan)
        self._row_every = -(-self.num_steps // NUM_STEP_ROWS)
        self.position = PretrainPosition(totals=self._no_totals())
        self.best: dict[str, Tensor] = {}
        """Always empty: the last weights are kept."""

    @property
    def step(self) -> int:
        """The optimizer steps that are done."""
        return self.position.step

    def _no_totals(self) -> list[float]:
        return Totals.zero(self.model.code_shape).flat().tolist()

    @property
    def temperature(self) -> float:
        """The Gumbel temperature of the next step."""
        start, end = self.config.quantizer.gumbel_start, self.config.quantizer.gumbel_end
        annealed = max(1.0, ANNEALED_FRACTION * self.num_steps)
        decay = self.config.quantizer.gumbel_decay or (end / start) ** (1 / annealed)
        return max(end, start * decay**self.position.step)

    @malloc_keeps_freed_memory()
    def run(
        self,
        *,
        on_step: Callable[["Pretrainer"], None] = lambda trainer: None,
        on_epoch: Callable[["Pretrainer"], None] = lambda trainer: None,
    ) -> PretrainPosition:
        """The position at the end, once the model has been trained from the present one on.

        Raises DivergenceError when the loss is not finite, CollapseError when training.on_collapse is stop and
        the model collapses, UserError when the GPU's memory does not suffice.
        """
        at = self.position
        while at.epoch < len(self._plan):
            batches = self._plan[at.epoch]
            while at.batch < len(batches):
                self._expect_batches()
                with memory_hint("lower --optim.pass_s, or cut long clips with --training.crop_s"):
                    self._step(batches[at.batch])
                if at.batch < len(batches):
                    on_step(self)
            self._end_epoch()
            on_epoch(self)
        return at

    def _expect_batches(self) -> None:
        """Begin to fetch features and to make batches of the next steps, also across the end of the epoch."""
        at = self.position
        now = self._plan[at.epoch][at.batch : at.batch + NUM_FETCHED]
        then = self._plan[at.epoch + 1][: NUM_FETCHED - len(now)] if at.epoch + 1 < len(self._plan) else []
        coming = [(at.epoch, batch) for batch in now] + [(at.epoch + 1, batch) for batch in then]
        features = self._train.clips.features
        if isinstance(features, FetchedFeatures):
            features.expect(np.concatenate([self.group.share(batch) for _, batch in coming]))
        for epoch, batch in coming[:NUM_MADE]:
            for part in self._clips_of_parts(batch)[0]:
                self.ahead.expect(part, epoch=epoch)

    def _step(self, batch: Int[np.ndarray, " batch"]) -> None:
        """One optimizer step on this process's share of `batch`."""
        at = self.position
        scale = learning_rate_scale(at.step, num_steps=self.num_steps, optim=self._optim)
        for group in self.optimizer.param_groups:
            group["lr"] = self._optim.learning_rate * scale
        self.optimizer.zero_grad(set_to_none=True)
        totals = self._backward(batch)
        norm = self._clipped_norm()
        reading = self._reading(totals, norm.item())
        if not is_finite(reading):
            raise DivergenceError(
                f"the loss is {reading.loss} and its gradient's norm {reading.gradient_norm} at step {at.step + 1}"
            )
        self._watch(reading)
        if at.step % self._row_every == 0:
            at.steps.append(
                {
                    "step": at.step + 1,
                    "epoch": at.epoch + 1,
                    **totals.readings(),
                }
                | {"gradient_norm": reading.gradient_norm, "learning_rate": self._learning_rate}
                | {"gumbel_temperature": self.temperature}
            )
        self.optimizer.step()
        at.totals = (np.array(at.totals) + totals.flat()).tolist()
        at.batch, at.step = at.batch + 1, at.step + 1

    def _clipped_norm(self) -> Float[Tensor, ""]:
        """The norm of the whole gradient, which is clipped where optim.clip_norm asks for it."""
        if self._optim.clip_norm:
            return nn.utils.clip_grad_norm_(self.model.parameters(), self._optim.clip_norm)
        return nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])

    @property
    def _learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _reading(self, totals: Totals, norm: float) -> StepReading:
        readings = totals.readings()
        return StepReading(
            loss=readings["loss"],
            chance_loss=readings["chance_loss"],
            accuracy=readings["accuracy"],
            perplexity=readings["perplexity"],
            num_codes=totals.code_probabilities.size,
            gradient_norm=norm,
        )

    def _watch(self, reading: StepReading) -> None:
        """Raise or report the collapse, once; clusters are given, so their prediction cannot collapse."""
        at = self.position
        at.alarms = Alarms() if self.config.has_clusters else at.alarms.after(reading)
        reason = at.alarms.reason(reading)
        if not reason or at.collapsed:
            return
        if self.config.training.on_collapse == "stop":
            raise CollapseError(f"at step {at.step + 1}, {reason}")
        at.collapsed = f"at step {at.step + 1}, {reason}"
        logger.warning("pre-training: %s", at.collapsed)

    def _backward(self, batch: Int[np.ndarray, " batch"]) -> Totals:
        """The totals of a batch, after its gradients have been computed.

        The diversity is a function of the whole batch's code probabilities, so these are summed over parts and
        processes before any part goes backwards (see contrastive.diversity_weights).
        """
        parts, counts, in_parts = self._parts(batch)
        first = None if in_parts else self._pass(parts[0], self.network)
        codes = [first.code_probabilities.detach()] if first else [self._codes(part) for part in parts]
        sizes = [float(sum(part[2].masked.sum() for part in parts)), sum(map(self._num_frames, parts))]
        whole = self._summed(
            counts * torch.cat([torch.tensor(sizes).double(), torch.stack(codes).sum(0).flatten().cpu()])
        )
        num_masked, num_frames = whole[:2].tolist()
        code_sums = whole[2:].view(self.model.code_shape).float()
        weights = torch.zeros(self.model.code_shape)
        if self._diversity_weight:
            weights = self._diversity_weight * diversity_weights(code_sums, num_masked)
        totals = Totals.zero(self.model.code_shape)
        for number, part in enumerate(parts):
            hold = number < len(parts) - 1 and self.group.size > 1
            with self.network.no_sync() if hold else contextlib.nullcontext():  # type: ignore[operator]
                sums = first or self._pass(part, self.network)
                loss = sums.loss / num_masked + (weights.to(self.device) * sums.code_probabilities).sum()
                loss = loss + self.config.loss.feature_penalty * sums.feature_square / num_frames
                # DDP averages gradients over processes; times their number it is the sum over the whole batch.
                (loss * (counts * self.group.size)).backward()
            totals += Totals.of_pass(sums, part[2], self._num_frames(part))
        return self._over_processes(totals, counts)

    def _parts(self, batch: Int[np.ndarray, " batch"]) -> tuple[list[Inputs], int, bool]:
        """This process's inputs, 1 if they count (0 if it has no clip of this batch), and whether any process has several parts."""
        parts, counts, in_parts = self._clips_of_parts(batch)
        return [self.ahead.batch(clips, epoch=self.position.epoch) for clips in parts], counts, in_parts

    def _clips_of_parts(
        self, batch: Int[np.ndarray, " batch"]
    ) -> tuple[list[Int[np.ndarray, " _"]], int, bool]:
        """Like _parts, with numbers of clips in place of inputs."""
        shares = [batch[rank :: self.group.size] for rank in range(self.group.size)]
        split = [self._split(share) for share in shares]
        parts, counts = (split[self.group.rank], 1) if len(shares[self.group.rank]) else ([batch[:1]], 0)
        return parts, counts, any(len(parts) > 1 for parts in split)

    def _split(self, share: Int[np.ndarray, " share"]) -> list[Int[np.ndarray, " _"]]:
        """A share of a batch in parts of at most optim.pass_s seconds of audio, padding included."""
        budget = round(self.config.optim.pass_s * SAMPLE_RATE)
        if not budget or not len(share):
            return [share]
        return [share[rows] for rows in batches_by_budget(self._train.num_samples[share], max_padded=budget)]

    def _num_frames(self, inputs: Inputs) -> float:
        return float(self.model.encoder.convolved_lengths(inputs[1]).sum())

    def _pass(self, inputs: Inputs, network: nn.Module) -> Sums:
        features, lengths, draw = inputs
        with self._autocast():
            return network(
                to_device(features, self.device),
                to_device(lengths, self.device),
                draw.to(self.device),
                self.temperature,
            )

    @property
    def _diversity_weight(self) -> float:
        return 0.0 if self.config.has_clusters else self.config.loss.diversity_weight

    def _codes(self, inputs: Inputs) -> Float[Tensor, "groups codes"]:
        """The sums of code probabilities of a part, where the diversity needs them before any part goes backwards."""
        if not isinstance(self.model, ContrastiveModel) or not self._diversity_weight:
            return torch.zeros(self.model.code_shape)
        features, lengths, draw = inputs
        with self._autocast():
            return self.model.code_probabilities(
                to_device(features, self.device), to_device(lengths, self.device), draw.to(self.device)
            )

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        bf16 = self.config.resources.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    def _summed(self, values: Float[Tensor, " numbers"]) -> Float[Tensor, " numbers"]:
        """The sums over processes, in float64 on the CPU."""
        return self.group.sum(values.double().to(self.device)).cpu()

    def _over_processes(self, totals: Totals, counts: int = 1) -> Totals:
        flat = self._summed(counts * torch.from_numpy(totals.flat())).numpy()
        return Totals.from_flat(flat, self.model.code_shape)

    def _end_epoch(self) -> None:
        """Close the epoch's sums into a row of the curve, and add one of the validation clips."""
        at = self.position
        train = Totals.from_flat(np.array(at.totals), self.model.code_shape)
        at.last_totals, at.totals = at.totals, self._no_totals()
        at.epoch, at.batch = at.epoch + 1, 0
        for split, totals in (("train", train), ("val", self.validation())):
            if totals is not None:
                row = {"epoch": at.epoch, "step": at.step, "split": split}
                at.curve.append({**row, **totals.readings()})

    @torch.no_grad()
    def validation(self) -> Totals | None:
        """The totals of the validation clips with their fixed draws and the likeliest codes; None where there are none."""
        if self._val is None:
            return None
        self.model.eval()
        totals = Totals.zero(self.model.code_shape)
        share = self.group.share(np.arange(len(self._val.clips)))
        budget = max(padded_budget(self.device, self.config.optim.pass_s), 1)
        for rows in batches_by_budget(self._val.num_samples[share], max_padded=budget):
            inputs = self._val.batch(share[rows], epoch=VALIDATION)
            totals += Totals.of_pass(self._pass(inputs, self.model), inputs[2], self._num_frames(inputs))
        self.model.train()
        return self._over_processes(totals)


def _epochs(num_samples: Int[np.ndarray, " clips"], config: PretrainConfig) -> Epochs:
    def draw(epoch: int) -> Batches:
        budget = round(config.optim.batch_s * SAMPLE_RATE)
        return batches_by_seconds(num_samples, max_samples=budget, seed=config.seed, epoch=epoch)

    return Epochs(config.training.num_epochs, draw)
