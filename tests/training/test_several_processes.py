"""Several processes train as one."""

import contextlib
import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.made import LENGTHS, NUM_CLASSES, OPTIM, assert_same, classifier, clip_set, moved
from w2v2.config.model import HeadConfig, TaskConfig, TrainingConfig
from w2v2.features.batches import shuffled_batches
from w2v2.models.classifier import Classifier
from w2v2.models.ctc import Transcriber
from w2v2.training.checkpoint import Checkpoints, restore, take
from w2v2.training.fold_result import Epoch
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trainer import Trainer

SHARED = replace(OPTIM, batch_size=5, accumulation_steps=2, clip_norm=0.5)


SHARED_TRAINING = TrainingConfig(num_epochs=2, class_weights="balanced", label_smoothing=0.1)


# What looks at a batch as a whole, of two values of which some are not known.
WHOLE = TaskConfig(kind="regression", loss="ccc", variance_penalty=0.3, correlation_penalty=0.3)


TASKS = (TaskConfig(), WHOLE, TaskConfig(kind="transcript"))


class Watched(list):
    """Features that remember which clips they were asked for."""

    def __init__(self, features: Iterable[np.ndarray]) -> None:
        super().__init__(features)
        self.asked: list[int] = []

    def __getitem__(self, index):
        self.asked.append(index)
        return super().__getitem__(index)


@dataclass(frozen=True)
class Result:
    weights: dict[str, torch.Tensor]
    curve: list[Epoch]
    asked: list[int]


def shared_fit(task: TaskConfig, group: ProcessGroup) -> Result:
    """One process's part of a training."""
    groups = [NUM_CLASSES] if task.kind == "classes" else [1, 1]
    encoder, config = classifier(train="all").encoder, HeadConfig(widths=(7,), dropout=0.0)
    if task.kind == "transcript":
        model = Transcriber(encoder, config, num_outputs=4)
        first = model.head
    else:
        model = Classifier(encoder, config, groups=groups)
        first = model.heads[0]
    if group.rank:
        with torch.no_grad():  # only rank 0's start counts
            first.layers[1].weight.add_(1.0)
    clips = clip_set(model.encoder)
    targets = clips.targets
    if task.kind == "regression":
        targets = np.random.default_rng(3).normal(size=(len(LENGTHS), 2)).astype(np.float32)
        targets[[1, 6], [0, 1]] = np.nan
    if task.kind == "transcript":  # two or three characters, never the same twice in a row
        targets = np.tile(np.array([1, 2, 3], np.int32), (len(LENGTHS), 1))
        targets[::2, 2] = -1
    clips = replace(clips, features=Watched(clips.features), targets=targets)
    optim, training = SHARED, SHARED_TRAINING
    if task.kind == "regression":
        optim, training = replace(optim, accumulation_steps=1), TrainingConfig(num_epochs=2)
    if task.kind == "transcript":
        training = TrainingConfig(num_epochs=2)
    curve = Trainer(model, clips, task=task, optim=optim, training=training, seed=0, group=group).run()
    return Result(model.state_dict(), curve, clips.features.asked)


def train_in_group(rank: int, size: int, folder: str) -> None:
    """One of `size` processes; leaves its results in the folder."""
    torch.set_num_threads(1)
    if size > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
        )
    group = ProcessGroup(rank=rank, size=size)
    torch.save([shared_fit(task, group) for task in TASKS], f"{folder}/{size}-{rank}.pt")
    if size > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path):
    """Batches of 5, 5 and 1 clips: uneven shares, and a batch in which one process has none."""
    sizes = [len(b) for b in shuffled_batches(np.array(LENGTHS), batch_size=5, seed=0, epoch=0)]
    assert sorted(sizes) == [1, 5, 5]
    torch.multiprocessing.spawn(train_in_group, args=(2, str(tmp_path)), nprocs=2)
    train_in_group(0, 1, str(tmp_path))
    read = functools.partial(torch.load, weights_only=False)
    for one, first, second in zip(
        *(read(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1")), strict=True
    ):
        assert_same(first.weights, second.weights, atol=0.0)
        assert first.curve == second.curve
        assert_same(one.weights, first.weights, atol=1e-5)
        assert moved(
            classifier().encoder, {name.removeprefix("encoder."): w for name, w in one.weights.items()}
        )
        for a, b in itertools.zip_longest(one.curve, first.curve):
            assert a.train_loss == pytest.approx(b.train_loss, rel=1e-5)
            assert (a.train_uar, a.learning_rate) == (b.train_uar, b.learning_rate)
        # Each reads its share of every batch, and one clip more where it has none.
        assert sorted(one.asked) == sorted([*range(len(LENGTHS))] * 2)
        assert set(first.asked) | set(second.asked) == set(one.asked)
        assert len(first.asked) + len(second.asked) == len(one.asked) + 2


STOP_AT = 2
"""The step after which the processes become others in number: in the middle of an epoch of three."""


def classifier_trainer(group: ProcessGroup) -> Trainer:
    model = classifier(train="all")
    return Trainer(
        model, clip_set(model.encoder), optim=SHARED, training=SHARED_TRAINING, seed=0, group=group
    )


def train_until(rank: int, size: int, folder: str) -> None:
    """One of `size` processes that stop together; the first leaves a checkpoint of all."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
    )

    def on_step(trainer: Trainer) -> None:
        if trainer.step == STOP_AT:
            checkpoint = take(trainer)
            if rank == 0:
                Checkpoints(folder, keep=1).write(STOP_AT, checkpoint)
            raise Stopped

    with contextlib.suppress(Stopped):
        classifier_trainer(ProcessGroup(rank=rank, size=size)).run(on_step=on_step)
    torch.distributed.destroy_process_group()


class Stopped(Exception):
    """The loss of a machine."""


@pytest.mark.slow
def test_a_training_continues_with_another_number_of_processes(tmp_path: Path):
    torch.multiprocessing.spawn(train_until, args=(2, str(tmp_path)), nprocs=2)
    alone = classifier_trainer(ProcessGroup())
    curve = alone.run()
    again = classifier_trainer(ProcessGroup())
    restore(again, Checkpoints(str(tmp_path), keep=1).latest())
    assert again.step == STOP_AT
    for a, b in itertools.zip_longest(curve, again.run()):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-5) and a.train_uar == b.train_uar
    assert_same(alone.model.state_dict(), again.model.state_dict(), atol=1e-5)
