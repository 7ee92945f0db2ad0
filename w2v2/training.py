"""The training loop: one fit, on one process or on each of several that share every batch."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from w2v2 import losses, metrics, schedules
from w2v2.clips import ClipSet, batches_by_budget, shuffled_batches
from w2v2.config import OptimConfig, TrainingConfig, UserError
from w2v2.heads import Classifier
from w2v2.optim import make_optimizer

logger = logging.getLogger(__name__)


class Diverged(ArithmeticError):
    """The loss is not finite any more; the message names the step."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes that train one model together; this one is `rank` of `size`."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Float[Tensor, " values"]) -> Float[Tensor, " values"]:
        """Sums over all processes: sums travel, ratios are taken once, afterwards."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One point of a learning curve; all of it is measured on training clips."""

    epoch: int
    train_loss: float
    train_uar: float
    learning_rate: float


@dataclass(kw_only=True)
class _Sums:
    """Addable sums of one epoch."""

    loss: float = 0.0
    weight: float = 0.0
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


def fit(
    model: Classifier,
    train: ClipSet,
    *,
    optim: OptimConfig,
    training: TrainingConfig,
    seed: int,
    world: World | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """The learning curve of training `model` in place on `train` for all epochs.

    The same seed on the same machine gives the same weights bit for bit. Several processes give the
    weights of one process to float rounding: each takes its share of every batch. Raises Diverged when
    the loss is not finite, UserError when the GPU's memory does not suffice.
    """
    world = world or World()
    device = _device(training)
    torch.manual_seed(seed + 7919 * world.rank)
    model.to(device).train()
    model.encoder.mask_time_fraction = training.mask_time_fraction
    model.encoder.mask_feature_fraction = training.mask_feature_fraction
    optimizer = make_optimizer(model, optim)
    weights = _class_weights(model, train, training).to(device)
    network = nn.parallel.DistributedDataParallel(model) if world.size > 1 else model
    plan = [_batches(train, epoch, optim, training, seed) for epoch in range(training.num_epochs)]
    num_steps = sum(len(batches) for batches in plan)
    curve: list[Epoch] = []
    step = 0
    for epoch, batches in enumerate(plan):
        sums = _Sums(confusion=np.zeros((len(weights), len(weights)), dtype=np.int64))
        for batch in batches:
            scale = schedules.learning_rate_scale(step, num_steps=num_steps, optim=optim)
            for group in optimizer.param_groups:
                group["lr"] = optim.learning_rate * scale
            with _memory_hint():
                _step(network, optimizer, train, batch, weights, optim, training, world, sums)
            step += 1
        curve.append(_epoch(epoch, sums, optimizer.param_groups[0]["lr"], world, device))
        if not np.isfinite(curve[-1].train_loss):
            raise Diverged(
                f"the training loss is {curve[-1].train_loss} in epoch {epoch + 1}, by step {step}"
            )
        on_epoch(curve[-1])
    return curve


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: ClipSet,
    batch: Int[np.ndarray, " batch"],
    weights: Float[Tensor, " classes"],
    optim: OptimConfig,
    training: TrainingConfig,
    world: World,
    sums: _Sums,
) -> None:
    """One optimizer step on this process's share of `batch`, forward in accumulation_steps parts."""
    device = weights.device
    batch_weight = float(weights[torch.from_numpy(train.targets[batch]).to(device)].sum())
    share, counts = _share(batch, world)
    parts = np.array_split(np.arange(len(share)), min(optim.accumulation_steps, len(share)))
    optimizer.zero_grad(set_to_none=True)
    for number, part in enumerate(parts):
        features, lengths = train.select(share[part])
        targets = torch.from_numpy(train.targets[share[part]]).to(device)
        last = number == len(parts) - 1
        sync = contextlib.nullcontext() if last or world.size == 1 else network.no_sync()  # type: ignore[operator]
        with sync:
            with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                logits = network(features.to(device), lengths.to(device))
            loss = losses.cross_entropy_sum(
                logits, targets, class_weights=weights, label_smoothing=training.label_smoothing
            )
            # DDP averages gradients over processes; times their number it is the sum over the whole batch.
            (loss * (counts * world.size / batch_weight)).backward()
        if counts:
            sums.loss += float(loss.detach())
            sums.weight += float(weights[targets].sum())
            predicted = logits.detach().argmax(1).cpu().numpy()
            sums.confusion += metrics.confusion(targets.cpu().numpy(), predicted, len(weights))
    if optim.clip_norm:
        nn.utils.clip_grad_norm_(network.parameters(), optim.clip_norm)
    optimizer.step()


def _share(batch: Int[np.ndarray, " batch"], world: World) -> tuple[Int[np.ndarray, " share"], int]:
    """This process's clips of a batch, and whether they count (1) or only keep it in step (0)."""
    share = batch[world.rank :: world.size]
    return (share, 1) if len(share) else (batch[:1], 0)


def _batches(
    train: ClipSet, epoch: int, optim: OptimConfig, training: TrainingConfig, seed: int
) -> list[Int[np.ndarray, " batch"]]:
    size = schedules.batch_size_at(epoch, num_epochs=training.num_epochs, optim=optim)
    return shuffled_batches(train.lengths, batch_size=size, seed=seed, epoch=epoch)


def _class_weights(model: Classifier, train: ClipSet, training: TrainingConfig) -> Float[Tensor, " classes"]:
    match training.class_weights:
        case "none":
            return torch.ones(model.num_outputs)
        case "balanced":
            return losses.balanced_class_weights(train.targets, model.num_outputs)


def _epoch(epoch: int, sums: _Sums, learning_rate: float, world: World, device: torch.device) -> Epoch:
    flat = torch.tensor(
        [sums.loss, sums.weight, *sums.confusion.flatten()], dtype=torch.float64, device=device
    )
    loss, weight, *counts = world.sum(flat).tolist()
    confusion = np.array(counts).reshape(sums.confusion.shape).round().astype(np.int64)
    uar = metrics.scores(confusion, [str(index) for index in range(len(confusion))])["uar"]
    return Epoch(epoch=epoch + 1, train_loss=loss / weight, train_uar=uar, learning_rate=learning_rate)


@torch.no_grad()
def predict_logits(
    model: Classifier, clips: ClipSet, *, precision: str = "float32"
) -> Float[np.ndarray, "clips outputs"]:
    """Logits of every clip in order, in evaluation mode; the batching changes nothing but rounding."""
    model.eval()
    device = next(model.parameters()).device
    budget = int(clips.lengths.max()) * (64 if device.type == "cuda" else 8)
    logits = np.zeros((len(clips), model.num_outputs), dtype=np.float32)
    for batch in batches_by_budget(clips.lengths, max_padded=budget):
        features, lengths = clips.select(batch)
        with _memory_hint(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits[batch] = model(features.to(device), lengths.to(device)).float().cpu().numpy()
    return logits


def _device(training: TrainingConfig) -> torch.device:
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32; who wants speed says bf16
        return torch.device("cuda")
    if training.precision == "bf16":
        raise UserError("training.precision is bf16 but there is no GPU here; wanted float32 on a CPU")
    return torch.device("cpu")


@contextlib.contextmanager
def _memory_hint() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of GPU memory ({str(error).splitlines()[0][:120]}); lower --optim.batch_size or raise "
            "--optim.accumulation_steps, cut long clips with --audio.crop_s, or train less with --encoder.train last"
        ) from error


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """What one fold of one trial leaves: held-out predictions and how the training went."""

    fold: int
    clip_ids: list[str]
    targets: Int[np.ndarray, " clips"]
    probabilities: Float[np.ndarray, "clips classes"]
    loss: float
    """Mean cross entropy of the held-out clips, in nats."""
    num_train: int
    seconds: float
    curve: list[Epoch]


def score_fold(
    model: Classifier,
    *,
    fold: int,
    train: ClipSet,
    held_out: ClipSet,
    held_out_ids: list[str],
    optim: OptimConfig,
    training: TrainingConfig,
    seed: int,
    world: World | None = None,
) -> FoldScore:
    """Train on `train` for all epochs, then look at the held-out clips once."""
    started = time.perf_counter()
    curve = fit(model, train, optim=optim, training=training, seed=seed, world=world)
    logits = predict_logits(model, held_out, precision=training.precision).astype(np.float64)
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    loss = -log_probabilities[np.arange(len(logits)), held_out.targets].mean()
    if not np.isfinite(loss):
        raise Diverged(f"the loss of held-out fold {fold} is {loss}")
    return FoldScore(
        fold=fold,
        clip_ids=held_out_ids,
        targets=held_out.targets,
        probabilities=np.exp(log_probabilities),
        loss=float(loss),
        num_train=len(train),
        seconds=time.perf_counter() - started,
        curve=curve,
    )
