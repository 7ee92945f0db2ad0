"""Checkpoints: a training that is stopped and gone on with ends bit for bit as one that was not."""

import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from tests.cloud.gcs import without_pauses
from tests.training.made import LENGTHS, OPTIM, classifier, clip_set
from w2v2.config.model import TrainingConfig
from w2v2.features.batches import ClipSet
from w2v2.storage import files as storage
from w2v2.storage.files import RefusedError, UnreachableError
from w2v2.training.checkpoint import Checkpoints, restore, take
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trainer import Trainer

TRAINING = TrainingConfig(num_epochs=4, patience_epochs=2)


class Killed(BaseException):
    """The end of a process."""


def fitting(seed: int = 0, **settings) -> Trainer:
    """A training with dropout, which draws from the random numbers that a checkpoint must keep."""
    model = classifier(dropout=0.2, **settings)
    whole = clip_set(model.encoder)
    val = ClipSet(features=whole.features[:3], lengths=whole.lengths[:3], targets=whole.targets[:3])
    return Trainer(model, whole, optim=OPTIM, training=TRAINING, seed=seed, val=val)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module", params=["all", "last"])
def uninterrupted(request):
    one = fitting(train=request.param)
    curve = one.run()
    return request.param, weights(one.model), curve, one.position.best_epoch


@pytest.mark.parametrize("stop_at", [1, 3, 4, 7])
def test_killed_and_gone_on_with_it_ends_bit_for_bit_the_same(uninterrupted, stop_at, tmp_path):
    train, expected, curve, best_epoch = uninterrupted
    checkpoints = Checkpoints(str(tmp_path), keep=2)

    def keep(one: Trainer) -> None:
        checkpoints.write(one.position.step, take(one))
        if one.position.step >= stop_at:
            raise Killed

    with pytest.raises(Killed):
        fitting(train=train).run(on_step=keep, on_epoch=keep)
    torch.manual_seed(987)
    again = fitting(train=train)
    restore(again, checkpoints.latest())
    assert again.position.step == stop_at
    assert again.run() == curve and again.position.best_epoch == best_epoch
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_weights_of_the_best_epoch_are_kept(uninterrupted):
    _, _, curve, best_epoch = uninterrupted
    losses = [point.val_loss for point in curve]
    assert best_epoch == 1 + int(np.argmin(losses))
    assert len(curve) == min(TRAINING.num_epochs, best_epoch + TRAINING.patience_epochs)


def test_without_patience_the_last_weights_are_kept():
    one = fitting()
    one.training = replace(TRAINING, patience_epochs=0)
    assert len(one.run()) == 4 and not one.best


def test_only_the_newest_are_kept_and_a_damaged_one_is_passed_over(tmp_path, caplog):
    checkpoints = Checkpoints(str(tmp_path), keep=2)
    one = fitting()
    one.run(on_epoch=lambda f: checkpoints.write(f.position.step, take(f)))
    files = sorted(info.uri.rpartition("/")[2] for info in storage.list_files(f"{tmp_path}/checkpoints"))
    assert len(files) == 4 and files[0].endswith(".json")
    steps = sorted({int(name[5:14]) for name in files})
    newest = tmp_path / "checkpoints" / f"step-{steps[1]:09d}.safetensors"
    body = bytearray(newest.read_bytes())
    body[-5] ^= 1
    newest.write_bytes(body)
    with caplog.at_level(logging.WARNING):
        latest = checkpoints.latest()
    assert latest.state["positions"][0]["step"] == steps[0]
    assert "is damaged (its checksum differs)" in caplog.text
    newest.unlink()
    assert checkpoints.latest().state["positions"][0]["step"] == steps[0]


def test_no_checkpoint_yet(tmp_path):
    assert Checkpoints(str(tmp_path), keep=1).latest() is None


def test_a_bucket_that_does_not_answer_is_no_training_at_its_start(bucket, monkeypatch):
    without_pauses(monkeypatch)
    checkpoints = Checkpoints("gs://speech/run", keep=2)
    assert checkpoints.latest() is None
    one = fitting()
    for step in (3, 4):
        checkpoints.write(step, take(one))
    for path in ("prefix=run", "step-000000004.json", "step-000000004.safetensors"):
        bucket.faults.add(kind="status", path_contains=path, count=-1)
        with pytest.raises(UnreachableError, match="run the same command again"):
            checkpoints.latest()
        bucket.faults.clear()
    for permission in ("list", "get"):
        bucket.deny("speech", f"storage.objects.{permission}")
        with pytest.raises(RefusedError, match=f"lacks storage.objects.{permission}"):
            checkpoints.latest()
        bucket.allow("speech", f"storage.objects.{permission}")
    assert checkpoints.latest() is not None


def test_among_another_number_of_processes_the_first_has_the_sums_of_all():
    taken = take(fitting())
    sums = [
        dict(loss=1.5, weight=4.0, confusion=[[1, 0], [2, 1]]),
        dict(loss=0.25, weight=3.0, confusion=[[0, 3], [0, 0]]),
    ]
    positions = [taken.state["positions"][0] | {"epoch": 1, "batch": 2, "step": 9} | made for made in sums]
    taken = replace(taken, state={**taken.state, "positions": positions})
    for rank, wanted in enumerate([(1.75, 7.0, [[1, 3], [2, 1]]), (0.0, 0.0, []), (0.0, 0.0, [])]):
        one = fitting()
        one.group = ProcessGroup(rank=rank, size=3)
        restore(one, taken)
        at = one.position
        assert (at.loss, at.weight, at.confusion) == wanted and (at.epoch, at.batch, at.step) == (1, 2, 9)


def test_a_checkpoint_holds_what_is_trained_and_no_more():
    names = {name for name in take(fitting(train="head")).tensors if name.startswith("model.")}
    assert names == {f"model.heads.0.layers.{n}.{part}" for n in (1, 4) for part in ("weight", "bias")}
    assert asdict(fitting().position)["step"] == 0 and len(LENGTHS) == 11
