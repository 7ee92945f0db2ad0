"""Checkpoints: the state of a training as files, from which it resumes with the same bits."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol, Self, TypeVar, runtime_checkable

import google_crc32c
import safetensors.torch
import torch
from jaxtyping import Shaped
from torch import Tensor

from w2v2.config.model import CheckpointConfig
from w2v2.errors import UserError
from w2v2.json_types import JsonObject
from w2v2.models.ctc import SpeechModel
from w2v2.models.pretraining import PretrainingModel
from w2v2.storage import files as storage
from w2v2.storage.seals import parse_json, seal_json
from w2v2.training.fold_result import DivergenceError
from w2v2.training.position import Position
from w2v2.training.pretrain_position import PretrainPosition
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trained_weights import trained_state

logger = logging.getLogger(__name__)

P = TypeVar("P", Position, PretrainPosition)

NAME = re.compile(r"step-(\d{9})\.json")


@runtime_checkable
class Resumable(Protocol[P]):
    """A training that can be kept and resumed: a Trainer or a Pretrainer."""

    optimizer: torch.optim.AdamW
    group: ProcessGroup
    device: torch.device
    position: P
    best: dict[str, Shaped[Tensor, "..."]]

    @property
    def model(self) -> SpeechModel | PretrainingModel:
        """What is trained."""

    @property
    def step(self) -> int:
        """The optimizer steps that are done; reading it does not wait for a GPU's sums."""

    def run(self, *, on_step: Callable[[Self], None], on_epoch: Callable[[Self], None]) -> object:
        """Train from the position on to the end, calling on_step and on_epoch with the training itself."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training after some step: tensors by name, and the rest as plain values."""

    tensors: Mapping[str, Shaped[Tensor, "..."]]
    state: JsonObject


class Checkpoints:
    """`<run>/checkpoints/`: the newest few, each a safetensors file and, written after it, its checksum."""

    def __init__(self, run: str, *, keep: int) -> None:
        self._folder = storage.join(run, "checkpoints")
        self._keep = keep

    def _uri(self, step: int, suffix: str) -> str:
        return storage.join(self._folder, f"step-{step:09d}.{suffix}")

    def write(self, step: int, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; older ones beyond the number to keep are deleted."""
        body = safetensors.torch.save(
            {name: value.contiguous() for name, value in checkpoint.tensors.items()}
        )
        storage.write_bytes(self._uri(step, "safetensors"), body)
        seal = {"crc32c": google_crc32c.value(body), "state": checkpoint.state}
        storage.write_text(self._uri(step, "json"), seal_json(seal))
        for old in self._steps()[: -self._keep]:
            storage.delete(self._uri(old, "json"))
            storage.delete(self._uri(old, "safetensors"))

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is not damaged; None without one.

        Raises StorageError where the folder or a checkpoint cannot be read.
        """
        for step in reversed(self._steps()):
            try:
                seal = parse_json(self._uri(step, "json"), storage.read_bytes(self._uri(step, "json")))
                body = storage.read_bytes(self._uri(step, "safetensors"))
                if google_crc32c.value(body) == seal["crc32c"]:
                    return Checkpoint(tensors=safetensors.torch.load(body), state=seal["state"])
                why = "its checksum differs"
            except storage.StorageError as error:
                # If it is unreachable or refused it may still exist; an older one would repeat its steps.
                if not isinstance(error, storage.NotFoundError | storage.DamagedError):
                    raise
                why = str(error)
            except (ValueError, KeyError, TypeError) as error:
                why = str(error)
            logger.warning("%s is damaged (%s): resuming from an older one", self._uri(step, "json"), why)
        return None

    def _steps(self) -> list[int]:
        """Steps of the completely written checkpoints, in order."""
        try:
            names = [info.uri.rpartition("/")[2] for info in storage.list_files(self._folder)]
        except storage.NotFoundError:  # no folder yet
            return []
        return sorted(int(match[1]) for name in names if (match := NAME.fullmatch(name)))


def train_resumed(
    trainer: Resumable[P],
    run: str,
    settings: CheckpointConfig,
    *,
    noun: str,
    on_epoch: Callable[[], None],
    is_kept: Callable[[], bool] = lambda: True,
) -> None:
    """Train from the newest checkpoint of the run directory to the end; checkpoints are written on the way.

    The first process calls on_epoch after each epoch's checkpoint; no checkpoint is written where is_kept is false.
    Raises UserError where the loss of this training, named by noun, is not finite any more.
    """
    checkpoints = Checkpoints(run, keep=settings.keep)
    if newest := checkpoints.latest():
        restore(trainer, newest)

    def keep() -> None:
        if is_kept():
            checkpoint = take(trainer)  # by all processes together
            if trainer.group.rank == 0:
                checkpoints.write(trainer.position.step, checkpoint)

    def step_done(_: object) -> None:
        if settings.every_steps and trainer.step % settings.every_steps == 0:
            keep()

    def epoch_done(_: object) -> None:
        keep()
        if trainer.group.rank == 0:
            on_epoch()

    try:
        trainer.run(on_step=step_done, on_epoch=epoch_done)
    except DivergenceError as error:
        raise UserError(
            f"the {noun} diverged: {error}; lower --optim.learning_rate, or set --optim.clip_norm 1, and give the new "
            "settings a directory of their own with --run"
        ) from error


def take(trainer: Resumable[P]) -> Checkpoint:
    """A checkpoint of a training at its present step; all its processes call this together."""
    optimizer = trainer.optimizer.state_dict()
    of_this_process = {"position": asdict(trainer.position), "rng": _rng_state()}
    ranks = trainer.group.states(of_this_process)
    tensors = {f"model.{name}": value for name, value in trained_state(trainer.model).items()}
    tensors |= {f"best.{name}": value for name, value in trainer.best.items()}
    for index, values in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    for rank, process_state in enumerate(ranks):
        tensors |= {f"rng.{rank}.{name}": value for name, value in process_state["rng"].items()}
    state = {
        "positions": [process_state["position"] for process_state in ranks],
        "param_groups": optimizer["param_groups"],
    }
    return Checkpoint(tensors={name: value.detach().cpu() for name, value in tensors.items()}, state=state)


def restore(trainer: Resumable[P], checkpoint: Checkpoint) -> None:
    """Set a training to the state of a checkpoint, which may be of another number of processes.

    Its numbers are then the same up to rounding and to random draws in a pass, such as dropout.
    """
    positions = [type(trainer.position).restored(state) for state in checkpoint.state["positions"]]
    rank = trainer.group.rank
    same = len(positions) == trainer.group.size
    trainer.model.load_state_dict(_under("model.", checkpoint.tensors), strict=False)
    best = _under("best.", checkpoint.tensors)
    trainer.best = {name: value.to(trainer.device) for name, value in best.items()}
    trainer.optimizer.load_state_dict(
        {"state": _optimizer_state(checkpoint), "param_groups": checkpoint.state["param_groups"]}
    )
    trainer.position = positions[rank] if same else positions[0].redistributed(positions, rank)
    if rng := _under(f"rng.{rank}.", checkpoint.tensors):
        _set_rng_state(rng)


def _optimizer_state(checkpoint: Checkpoint) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", checkpoint.tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    return state


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _rng_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_rng_state(state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
