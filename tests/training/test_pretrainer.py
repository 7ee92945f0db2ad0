"""Pre-training steps: parts, processes and interruptions change nothing; collapse and divergence are reported."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.made.pretraining import MASK, make_pair
from tests.training.made import assert_same, moved
from w2v2.config.model import EncoderConfig
from w2v2.config.pretrain import (
    LossConfig,
    PretrainConfig,
    PretrainOptimConfig,
    PretrainTrainingConfig,
    QuantizerConfig,
)
from w2v2.config.resources import TrainingResources
from w2v2.errors import UserError
from w2v2.features.batches import batches_by_seconds
from w2v2.features.trunk_features import run_trunk
from w2v2.models.encoder import Encoder
from w2v2.models.masking import VALIDATION
from w2v2.models.pretraining import ContrastiveModel
from w2v2.training.checkpoint import Checkpoints, restore, take
from w2v2.training.fold_result import DivergenceError
from w2v2.training.pretrain_position import PretrainPosition, Row
from w2v2.training.pretrainer import Pretrainer
from w2v2.training.pretraining_batches import BatchDrawer, BatchesAhead, PretrainClips
from w2v2.training.process_group import ProcessGroup

LENGTHS = [2003, 1401, 2201, 1799, 1601, 2997, 1577, 2009, 1883, 1443, 1701]
# A large eps keeps Adam from blowing the rounding of a gradient that is nearly zero up to a whole step.
OPTIM = PretrainOptimConfig(learning_rate=0.01, eps=1e-3, batch_s=0.5, warmup_fraction=0.2)
CONFIG = PretrainConfig(
    mask=MASK,
    optim=OPTIM,
    loss=LossConfig(diversity_weight=3.0, feature_penalty=0.1),
    training=PretrainTrainingConfig(num_epochs=2),
)


def clips(count: int = len(LENGTHS), *, first: int = 0) -> PretrainClips:
    rng = np.random.default_rng(2)
    waveforms = [rng.normal(size=length).astype(np.float32) for length in LENGTHS]
    chosen = slice(first, first + count)
    return PretrainClips(
        features=waveforms[chosen],
        num_samples=np.array(LENGTHS[chosen]),
        digests=[f"{number:032x}" for number in range(len(LENGTHS))][chosen],
    )


def model(*, dropout: float = 0.0) -> ContrastiveModel:
    made = make_pair("layer")[1]
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return made


def trainer(config: PretrainConfig = CONFIG, *, dropout: float = 0.0, **settings) -> Pretrainer:
    return Pretrainer(model(dropout=dropout), clips(8), config, val=clips(3, first=8), **settings)


def weights(trained: Pretrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.model.state_dict().items()}


def numbers(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "split"}


def test_batches_hold_so_many_seconds_and_every_clip_once():
    num_samples = np.random.default_rng(0).integers(1000, 50_000, size=400)
    batches = batches_by_seconds(num_samples, max_samples=160_000, seed=0, epoch=1)
    assert sorted(np.concatenate(batches)) == list(range(400))
    sums = [num_samples[batch].sum() for batch in batches]
    assert max(sums) <= 160_000 and np.mean(sums) > 120_000
    padded = sum(len(batch) * num_samples[batch].max() for batch in batches)
    assert padded / num_samples.sum() < 1.1
    assert [b.tolist() for b in batches] != [
        b.tolist() for b in batches_by_seconds(num_samples, max_samples=160_000, seed=0, epoch=2)
    ]
    assert [len(b) for b in batches_by_seconds(num_samples[:3], max_samples=1, seed=0, epoch=0)] == [1, 1, 1]


def test_parts_of_a_batch_train_as_the_whole():
    whole = trainer()
    whole.run()
    parts = trainer(replace(CONFIG, optim=replace(OPTIM, pass_s=0.13)))
    parts.run()
    assert_same(weights(whole), weights(parts), atol=1e-5)
    assert moved(model(), weights(whole))
    for a, b in zip(whole.position.curve, parts.position.curve, strict=True):
        assert a["split"] == b["split"]
        assert numbers(a) == pytest.approx(numbers(b), rel=1e-4)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_killed_and_resumed_it_ends_bit_for_bit_the_same(stop_at, tmp_path):
    whole = trainer(dropout=0.2)
    whole.run()
    checkpoints = Checkpoints(str(tmp_path), keep=2)

    class Killed(BaseException):
        pass

    def keep(one: Pretrainer) -> None:
        checkpoints.write(one.position.step, take(one))
        if one.position.step >= stop_at:
            raise Killed

    with pytest.raises(Killed):
        trainer(dropout=0.2).run(on_step=keep, on_epoch=keep)
    torch.manual_seed(987)
    again = trainer(dropout=0.2)
    newest = checkpoints.latest()
    assert newest is not None
    restore(again, newest)
    assert again.position.step == stop_at
    again.run()
    assert_same(weights(whole), weights(again), atol=0.0)
    assert whole.position == again.position


def test_draws_do_not_depend_on_the_batch_and_validation_repeats_them():
    drawer = BatchDrawer(clips(), model(), CONFIG)
    _, _, together = drawer.batch(np.array([2, 5]), epoch=3)
    _, _, alone = drawer.batch(np.array([5]), epoch=3)
    count = int(alone.masked.sum())
    assert torch.equal(together.masked[1, : alone.masked.shape[1]], alone.masked[0])
    assert torch.equal(together.negatives[-count:], alone.negatives)
    assert torch.equal(together.noise[-count:], alone.noise)
    assert drawer.batch(np.array([5]), epoch=VALIDATION)[2].noise is None
    one = trainer()
    assert np.array_equal(one.validation().flat(), one.validation().flat())


def test_batches_are_made_ahead_and_are_the_same():
    drawer = BatchDrawer(clips(), model(), CONFIG)
    asked: list[tuple[int, list[int]]] = []

    class Watched(BatchDrawer):
        def batch(self, clips, *, epoch):
            asked.append((epoch, clips.tolist()))
            return super().batch(clips, epoch=epoch)

    ahead = BatchesAhead(Watched(clips(), model(), CONFIG))
    ahead.expect(np.array([2, 5]), epoch=1)
    ahead.expect(np.array([0]), epoch=1)
    features, lengths, draw = ahead.batch(np.array([2, 5]), epoch=1)
    expected = drawer.batch(np.array([2, 5]), epoch=1)
    assert torch.equal(features, expected[0]) and torch.equal(lengths, expected[1])
    assert torch.equal(draw.negatives, expected[2].negatives) and torch.equal(draw.noise, expected[2].noise)
    ahead.batch(np.array([0]), epoch=1)
    assert asked == [(1, [2, 5]), (1, [0])]
    with pytest.raises(IndexError):
        ahead.batch(np.array([99]), epoch=1)


def test_each_batch_of_a_training_is_made_once_in_order():
    one = trainer()
    made: list[tuple[int, tuple[int, ...]]] = []
    draw = one._train.batch

    def counted(part, *, epoch):
        made.append((epoch, tuple(part.tolist())))
        return draw(part, epoch=epoch)

    one._train.batch = counted
    one.run()
    expected = [(epoch, tuple(batch.tolist())) for epoch in range(2) for batch in one._plan[epoch]]
    assert made == expected


def test_crops_are_drawn_anew_in_each_epoch():
    config = replace(CONFIG, training=replace(CONFIG.training, crop_s=0.1))
    drawer = BatchDrawer(clips(), model(), config)
    assert drawer.num_samples.tolist() == [min(length, 1600) for length in LENGTHS]
    first, second = (drawer.batch(np.array([5, 9]), epoch=epoch)[0] for epoch in (0, 1))
    whole = torch.from_numpy(clips().features[5])
    starts = [int((whole.unfold(0, 1600, 1) == rows[0]).all(1).nonzero()) for rows in (first, second)]
    assert starts[0] != starts[1]
    assert torch.equal(first[1], second[1])  # clip 9 is shorter than a crop


def test_convolutions_from_the_cache_give_the_loss_of_those_computed_anew():
    config = replace(CONFIG, training=replace(CONFIG.training, num_epochs=1))
    whole = model()
    cached = model()
    encoder = Encoder(cached.encoder.model, EncoderConfig(train="no_conv"), normalize=True)
    cached.encoder = encoder
    encoder.model.masked_spec_embed.requires_grad_(True)
    waveforms = clips()
    features = run_trunk(encoder, list(waveforms.features))
    frozen = PretrainClips(features=features, num_samples=waveforms.num_samples, digests=waveforms.digests)
    losses = []
    for one, train in ((whole, waveforms), (cached, frozen)):
        totals = Pretrainer(one, train, config, val=train).validation()
        assert totals is not None
        losses.append(totals.readings())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_gumbel_temperature_falls_to_its_end_and_stays():
    one = trainer()
    assert one.temperature == 2.0
    one.position = PretrainPosition(step=round(0.7 * one.num_steps) + 1)
    assert one.temperature == 0.5
    slow = trainer(replace(CONFIG, quantizer=QuantizerConfig(gumbel_decay=0.9)))
    slow.position = PretrainPosition(step=2)
    assert slow.temperature == pytest.approx(2.0 * 0.81)


def test_a_loss_that_is_not_finite_is_reported():
    one = trainer()
    with torch.no_grad():
        one.model.project_hid.weight[0, 0] = torch.nan
    with pytest.raises(DivergenceError, match="the loss is nan and its gradient's norm nan at step 1"):
        one.run()


def test_bf16_is_refused_on_a_cpu():
    with pytest.raises(UserError, match=r"resources\.precision is bf16 but there is no GPU here"):
        trainer(replace(CONFIG, resources=TrainingResources(precision="bf16")))


def train_in_group(rank: int, size: int, folder: str) -> None:
    """One of `size` processes; leaves its results in the folder."""
    torch.set_num_threads(1)
    if size > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
        )
    one = trainer(replace(CONFIG, optim=replace(OPTIM, pass_s=0.2)), group=ProcessGroup(rank=rank, size=size))
    one.run()
    torch.save((weights(one), one.position), f"{folder}/{size}-{rank}.pt")
    if size > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path):
    """Also where one of them has no clip of a batch, and one has parts where the other has none."""
    sizes = [
        len(batch)
        for epoch in range(2)
        for batch in batches_by_seconds(np.array(LENGTHS[:8]), max_samples=8000, seed=0, epoch=epoch)
    ]
    assert min(sizes) == 1 and max(sizes) > 2
    torch.multiprocessing.spawn(train_in_group, args=(2, str(tmp_path)), nprocs=2)
    train_in_group(0, 1, str(tmp_path))
    read = functools.partial(torch.load, weights_only=False)
    (one, alone), (first, position), (second, other) = (
        read(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1")
    )
    assert_same(first, second, atol=0.0)
    assert position == other
    assert_same(one, first, atol=1e-5)
    for a, b in zip(alone.curve, position.curve, strict=True):
        assert a["split"] == b["split"]
        assert numbers(a) == pytest.approx(numbers(b), rel=1e-4)
