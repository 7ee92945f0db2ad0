"""Low-rank updates, layer-wise rates, attentive statistics and mixup together: resumed, and by several processes."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.made import OPTIM, assert_same, classifier, clip_set, moved
from tests.training.test_several_processes import Watched
from w2v2.config.model import LoraConfig, TrainingConfig
from w2v2.models.lora import add_lora
from w2v2.training.checkpoint import Checkpoints, restore, take
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trainer import Trainer

OPTIONS = replace(OPTIM, layer_decay=0.8, batch_size=5, accumulation_steps=2)
MIXED = TrainingConfig(num_epochs=2, mixup_alpha=0.4)


def fitting(*, dropout: float = 0.2, group: ProcessGroup | None = None) -> Trainer:
    """A training with all options, and with dropout."""
    model = classifier(dropout=dropout, train="last", num_last_layers=2, pooling="attentive_statistics")
    add_lora(model.encoder, LoraConfig(rank=2, projections=("query", "value", "feed_forward")))
    clips = clip_set(model.encoder)
    clips = replace(clips, features=Watched(clips.features))
    return Trainer(model, clips, optim=OPTIONS, training=MIXED, seed=0, group=group)


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_killed_and_resumed_it_ends_bit_for_bit_the_same(stop_at, tmp_path):
    whole = fitting()
    curve = whole.run()
    checkpoints = Checkpoints(str(tmp_path), keep=2)

    def keep(one: Trainer) -> None:
        checkpoints.write(one.position.step, take(one))
        if one.position.step >= stop_at:
            raise Killed

    with pytest.raises(Killed):
        fitting().run(on_step=keep, on_epoch=keep)
    torch.manual_seed(987)
    again = fitting()
    newest = checkpoints.latest()
    assert newest is not None
    restore(again, newest)
    assert again.run() == curve
    assert_same(again.model.state_dict(), whole.model.state_dict(), atol=0.0)
    names = [name for name in newest.tensors if name.startswith("model.encoder.")]
    assert names and all("parametrizations.weight.0." in name for name in names)


def train_in_group(rank: int, size: int, folder: str) -> None:
    """One of `size` processes; leaves its weights and curve in the folder."""
    torch.set_num_threads(1)
    if size > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
        )
    one = fitting(dropout=0.0, group=ProcessGroup(rank=rank, size=size))
    curve = one.run()
    torch.save((one.model.state_dict(), curve), f"{folder}/{size}-{rank}.pt")
    if size > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path):
    torch.multiprocessing.spawn(train_in_group, args=(2, str(tmp_path)), nprocs=2)
    train_in_group(0, 1, str(tmp_path))
    read = functools.partial(torch.load, weights_only=False)
    (one, curve), (first, first_curve), (second, second_curve) = (
        read(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1")
    )
    assert_same(first, second, atol=0.0)
    assert_same(one, first, atol=1e-5)
    assert first_curve == second_curve and moved(fitting(dropout=0.0).model, one)
    for a, b in zip(curve, first_curve, strict=True):
        assert np.isclose(a.train_loss, b.train_loss, rtol=1e-5) and a.train_uar == b.train_uar
