"""Training against plain loops over single clips; what must not matter, does not."""

import copy
import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from w2v2.clips import ClipSet, shuffled_batches
from w2v2.config import UserError
from w2v2.encoder import Encoder
from w2v2.features import run_trunk
from w2v2.fitting import Fitting
from w2v2.fold_score import Diverged, Epoch
from w2v2.heads import Classifier
from w2v2.logits import predict_logits
from w2v2.model_config import EncoderConfig, HeadConfig, OptimConfig, TaskConfig, TrainingConfig
from w2v2.training import fit, score_fold
from w2v2.world import World

NUM_CLASSES, NUM_LAYERS = 3, 3
SMALL = dict(
    hidden_size=16, num_hidden_layers=NUM_LAYERS, num_attention_heads=2, intermediate_size=20, conv_dim=(11, 13),
    conv_kernel=(10, 8), conv_stride=(5, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
)  # fmt: skip
LENGTHS = [803, 401, 1201, 799, 601, 997, 577, 1009, 883, 443, 701]
# A large eps keeps Adam from blowing the rounding of a gradient that is nearly zero up to a whole step.
OPTIM = OptimConfig(learning_rate=0.01, eps=1e-3, batch_size=4, warmup_fraction=0.2)
TRAINING = TrainingConfig(num_epochs=2)


def classifier(*, dropout: float = 0.0, kind: str = "wav2vec2", **settings) -> Classifier:
    """A small classifier, the same at every call."""
    torch.manual_seed(11)
    drops = dict(
        hidden_dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        feat_proj_dropout=dropout,
    )
    model_class, config_class, extra = {
        "wav2vec2": (Wav2Vec2Model, Wav2Vec2Config, {}),
        "hubert": (HubertModel, HubertConfig, dict(conv_pos_batch_norm=True)),
    }[kind]  # fmt: skip
    encoder = Encoder(
        model_class(config_class(**SMALL, **drops, **extra)), EncoderConfig(**settings), normalize=True
    )
    return Classifier(encoder, HeadConfig(widths=(7,), dropout=dropout), groups=[NUM_CLASSES])


def waveforms(lengths: list[int] = LENGTHS) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.normal(size=length).astype(np.float32) for length in lengths]


def clip_set(encoder: Encoder, lengths: list[int] = LENGTHS) -> ClipSet:
    """Noise with lopsided classes, as features at the encoder's cut."""
    features = run_trunk(encoder, waveforms(lengths))
    targets = np.array([0, 1, 2, 0, 0, 1, 0, 0, 2, 0, 0])[: len(lengths)]
    return ClipSet(features=features, lengths=np.array(lengths), targets=targets)


def trained(
    model: Classifier, *, optim: OptimConfig = OPTIM, training: TrainingConfig = TRAINING, seed: int = 0
) -> tuple[dict[str, torch.Tensor], list[Epoch]]:
    """Weights and curve after fit."""
    curve = fit(model, clip_set(model.encoder), optim=optim, training=training, seed=seed)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, curve


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(
            tensor, b[name], atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def moved(model: nn.Module, weights: dict[str, torch.Tensor], least: float = 1e-3) -> bool:
    """Whether training moved some weight by more than `least`, so that equality means something."""
    return any((weights[name] - tensor).abs().max() > least for name, tensor in model.state_dict().items())


# -- seeds and batches


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    drops = dict(dropout=0.2, train="all")
    first, first_curve = trained(classifier(**drops), seed=5)
    torch.randn(7)
    again, again_curve = trained(classifier(**drops), seed=5)
    other, _ = trained(classifier(**drops), seed=6)
    assert_same(first, again, atol=0.0)
    assert first_curve == again_curve
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("accumulation_steps", [3, 100])
def test_forward_in_parts_equals_the_whole_batch(accumulation_steps):
    training = replace(TRAINING, class_weights="balanced", label_smoothing=0.1)
    whole, curve = trained(classifier(), training=training)
    parts, parts_curve = trained(
        classifier(), training=training, optim=replace(OPTIM, accumulation_steps=accumulation_steps)
    )
    assert moved(classifier(), whole)
    assert_same(whole, parts, atol=1e-5)
    for a, b in zip(curve, parts_curve, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-5)
        assert a.train_uar == b.train_uar


def clip_logits(model: Classifier, waveform: np.ndarray) -> torch.Tensor:
    """Logits of one clip alone by transformers' own forward, a mean over frames and the head."""
    hidden = model.encoder.model(torch.from_numpy(waveform)[None]).last_hidden_state
    return model.heads[0](hidden.mean(1))


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.05])
def test_a_step_on_a_padded_batch_equals_a_loop_over_single_clips(class_weights, clip_norm):
    optim = replace(OPTIM, batch_size=100, schedule="constant", warmup_fraction=0.0, clip_norm=clip_norm)
    training = TrainingConfig(num_epochs=1, class_weights=class_weights, label_smoothing=0.2)
    expected = classifier()
    before = copy.deepcopy(expected.state_dict())
    targets = clip_set(expected.encoder).targets
    weights = np.ones(NUM_CLASSES)
    if class_weights == "balanced":
        weights = compute_class_weight("balanced", classes=np.arange(NUM_CLASSES), y=targets)
    surprises = [
        -clip_logits(expected, waveform).log_softmax(1)[0]
        for waveform in waveforms()
    ]  # fmt: skip
    smooth = torch.full((NUM_CLASSES, NUM_CLASSES), 0.2 / NUM_CLASSES) + 0.8 * torch.eye(NUM_CLASSES)
    mass = smooth * torch.tensor(
        weights, dtype=torch.float32
    )  # torch weighs each class's share of the smoothing
    losses = [(mass[target] * surprise).sum() for surprise, target in zip(surprises, targets, strict=True)]
    loss = sum(losses) / weights[targets].sum()
    loss.backward()
    parameters = [p for p in expected.parameters() if p.grad is not None]
    if clip_norm:
        norm = torch.sqrt(sum(p.grad.square().sum() for p in parameters))
        assert norm > 2 * clip_norm
        for p in parameters:
            p.grad *= clip_norm / norm
    with torch.no_grad():
        for p in parameters:  # Adam's first step is lr g / (|g| + eps), beside the decay of matrices
            decay = optim.weight_decay if p.ndim >= 2 else 0.0
            p.mul_(1 - optim.learning_rate * decay)
            p.sub_(optim.learning_rate * p.grad / (p.grad.abs() + optim.eps))
    got, curve = trained(classifier(), optim=optim, training=training)
    assert_same(got, expected.state_dict(), atol=2e-5)
    assert not torch.equal(before["heads.0.layers.1.weight"], got["heads.0.layers.1.weight"])
    assert curve[0].train_loss == pytest.approx(loss.item(), rel=1e-5)


def test_the_curve_is_of_training_clips_and_says_the_learning_rate():
    seen: list[Epoch] = []
    model = classifier()
    clips = clip_set(model.encoder)
    optim = replace(OPTIM, warmup_fraction=0.0)
    curve = fit(
        model, clips, optim=optim, training=TrainingConfig(num_epochs=4), seed=0, on_epoch=seen.append
    )
    assert curve == seen
    assert [point.epoch for point in curve] == [1, 2, 3, 4]
    # Three batches of up to four clips an epoch; the rate of each epoch's last step, linear to zero.
    assert [point.learning_rate for point in curve] == pytest.approx(
        [0.01 * (1 - step / 12) for step in (2, 5, 8, 11)]
    )


def test_larger_late_batches_are_fewer_steps():
    optim = replace(OPTIM, warmup_fraction=0.0, late_batch_factor=2)
    model = classifier(train="head")
    curve = fit(
        model, clip_set(model.encoder), optim=optim, training=TrainingConfig(num_epochs=4), seed=0
    )  # 3 epochs of 3 steps and one of 2
    assert [point.learning_rate for point in curve] == pytest.approx(
        [0.01 * (1 - step / 11) for step in (2, 5, 8, 10)]
    )


# -- what is frozen


def frozen_names(model: Classifier, train: str) -> set[str]:
    """Weights that `train` freezes, by transformers' names."""
    below = [f"layers.{index}." for index in range(NUM_LAYERS - 1)]
    convolutions = ["feature_extractor"]
    entrance = [*convolutions, "feature_projection", "pos_conv_embed"]
    fragments = {"all": [], "no_conv": convolutions, "last": [*entrance, *below], "head": ["encoder.model."]}[
        train
    ]
    # Running statistics stay too: batch norm never sees the batch.
    never = ("masked_spec_embed", "running_mean", "running_var", "num_batches_tracked")
    inside = [name for name in model.state_dict() if name.startswith("encoder.model.")]
    return {name for name in inside if name.endswith(never) or any(part in name for part in fragments)}


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@pytest.mark.parametrize("train", ["all", "no_conv", "last", "head"])
def test_frozen_weights_stay_bit_for_bit_and_all_others_move(train, kind):
    settings = dict(train=train, num_last_layers=1, kind=kind, dropout=0.1)
    before = classifier(**settings).state_dict()
    after, _ = trained(classifier(**settings))
    still = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    expected = frozen_names(classifier(**settings), train)
    # A key's bias shifts all scores of a query alike, which softmax does not see: its gradient is rounding.
    assert still - {name for name in still if "k_proj.bias" in name} == {
        name for name in expected if "k_proj.bias" not in name
    }
    assert expected <= still


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@pytest.mark.parametrize(
    "train, layers", [("all", {0, 1, 2}), ("no_conv", {0, 1, 2}), ("last", {2}), ("head", set())]
)
def test_the_frozen_part_is_in_evaluation_mode_while_training(train, layers, kind):
    model = classifier(train=train, num_last_layers=1, kind=kind, dropout=0.1)
    modes = []

    def look(epoch: Epoch) -> None:
        inside = model.encoder.model
        modes.append(
            (
                {index for index, layer in enumerate(inside.encoder.layers) if layer.training},
                inside.feature_extractor.training,
                inside.encoder.pos_conv_embed.training,
                inside.encoder.dropout.training,
                model.heads[0].training,
            )
        )

    fit(model, clip_set(model.encoder), optim=OPTIM, training=TRAINING, seed=0, on_epoch=look)
    entrance = train in ("all", "no_conv")
    assert modes == [(layers, train == "all", entrance, entrance, True)] * 2


def plain_loop(model: Classifier, optim: OptimConfig, num_epochs: int) -> list[float]:
    """Balanced losses of each epoch: single clips, the frozen part recomputed each time, torch's own schedule."""
    targets = clip_set(model.encoder).targets
    weights = compute_class_weight("balanced", classes=np.arange(NUM_CLASSES), y=targets)[targets]
    epochs = [
        shuffled_batches(np.array(LENGTHS), batch_size=optim.batch_size, seed=0, epoch=epoch)
        for epoch in range(num_epochs)
    ]
    num_steps = sum(map(len, epochs))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=optim.learning_rate,
        eps=optim.eps,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / num_steps)
    audio = waveforms()
    losses = []
    for batches in epochs:
        total = 0.0
        for batch in batches:
            each = [
                weights[clip]
                * nn.functional.cross_entropy(clip_logits(model, audio[clip]), torch.tensor([targets[clip]]))
                for clip in batch
            ]
            optimizer.zero_grad()
            (sum(each) / weights[batch].sum()).backward()
            optimizer.step()
            scheduler.step()
            total += sum(each).item()
        losses.append(total / weights.sum())
    return losses


@pytest.mark.parametrize("train, stage", [("no_conv", "conv"), ("last", "layer"), ("head", "pooled")])
def test_training_on_cached_features_equals_recomputing_what_is_frozen(train, stage):
    optim = replace(OPTIM, warmup_fraction=0.0)
    settings = dict(train=train, num_last_layers=1)
    expected = classifier(**settings)
    losses = plain_loop(expected, optim, num_epochs=3)
    model = classifier(**settings)
    assert model.encoder.cut.stage == stage
    training = TrainingConfig(num_epochs=3, class_weights="balanced")
    weights, curve = trained(model, optim=optim, training=training)
    assert [point.train_loss for point in curve] == pytest.approx(losses, rel=1e-5)
    assert_same(weights, expected.state_dict(), atol=5e-5)
    assert losses[0] - losses[2] > 1e-3


def test_spec_augment_is_on_in_training_and_off_in_prediction():
    settings = dict(train="no_conv")
    plain, _ = trained(classifier(**settings))
    masked_training = replace(TRAINING, mask_time_fraction=0.5, mask_feature_fraction=0.3)
    model = classifier(**settings)
    clips = clip_set(model.encoder)
    masked, _ = trained(model, training=masked_training)
    assert any(not torch.equal(plain[name], masked[name]) for name in plain)
    assert np.array_equal(predict_logits(model, clips), predict_logits(model, clips))


# -- learning, and failing


def tones() -> ClipSet:
    """Clips of two pitches, of any phase and loudness, in noise."""
    rng = np.random.default_rng(0)
    targets = np.arange(24) % 2
    lengths = rng.integers(800, 1600, size=24)
    features = [
        (
            rng.uniform(0.2, 1)
            * np.sin(2 * np.pi * (300, 1100)[target] * np.arange(length) / 16_000 + rng.uniform(0, 6))
            + 0.05 * rng.normal(size=length)
        ).astype(np.float32)
        for target, length in zip(targets, lengths, strict=True)
    ]
    return ClipSet(features=features, lengths=lengths, targets=targets)


def test_two_pitches_are_learnt():
    curve = fit(
        classifier(train="all"),
        tones(),
        optim=OptimConfig(learning_rate=0.02, batch_size=6),
        training=TrainingConfig(num_epochs=10),
        seed=0,
    )
    assert curve[-1].train_loss < curve[0].train_loss / 2
    assert curve[-1].train_uar > 0.95


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_step():
    model = classifier(train="all")
    clips = clip_set(model.encoder)
    clips.features[4][100] = np.nan
    with pytest.raises(Diverged, match=r"^the training loss is nan in epoch 1, by step 3$"):
        fit(model, clips, optim=OPTIM, training=TRAINING, seed=0)


def test_an_absurd_learning_rate_diverges():
    with pytest.raises(Diverged, match=r"^the training loss is (nan|inf) in epoch \d, by step \d+$"):
        trained(
            classifier(),
            optim=replace(OPTIM, learning_rate=1e12, schedule="constant", warmup_fraction=0.0),
            training=TrainingConfig(num_epochs=5),
        )


def test_bf16_without_a_gpu_is_refused():
    with pytest.raises(
        UserError, match=r"training\.precision is bf16 but there is no GPU here; wanted float32"
    ):
        trained(classifier(), training=replace(TRAINING, precision="bf16"))


class Hungry(Classifier):
    """A classifier for which no GPU is large enough."""

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore lines")


def test_too_little_memory_says_what_to_lower():
    model = classifier()
    model.__class__ = Hungry
    message = r"out of GPU memory \(CUDA out of memory\. Tried to allocate 20 GiB\.\); lower --optim\.batch_size or raise --optim\.accumulation_steps"
    with pytest.raises(UserError, match=message):
        trained(model)
    with pytest.raises(UserError, match=message):
        predict_logits(model, clip_set(model.encoder))


# -- predictions and scores


@pytest.mark.parametrize(
    "settings", [dict(train="all"), dict(train="last", layer="mix"), dict(train="head")], ids=str
)
def test_logits_do_not_depend_on_order_or_batching(settings):
    model = classifier(dropout=0.1, **settings).train()
    clips = clip_set(model.encoder)
    logits = predict_logits(model, clips)
    assert logits.shape == (len(LENGTHS), NUM_CLASSES)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    order = np.random.default_rng(0).permutation(len(LENGTHS))
    turned = ClipSet(
        features=[clips.features[index] for index in order],
        lengths=clips.lengths[order],
        targets=clips.targets[order],
    )
    np.testing.assert_allclose(predict_logits(model, turned), logits[order], atol=1e-5)
    for index in range(len(LENGTHS)):
        alone = ClipSet(
            features=clips.features[index : index + 1],
            lengths=clips.lengths[index : index + 1],
            targets=clips.targets[index : index + 1],
        )
        np.testing.assert_allclose(predict_logits(model, alone)[0], logits[index], atol=1e-5)


def test_a_folds_score_is_of_held_out_clips_after_training():
    model = classifier(dropout=0.1)
    train = clip_set(model.encoder)
    held_out = clip_set(model.encoder, LENGTHS[:5])
    ids = [f"clip {index}" for index in range(5)]
    score = score_fold(
        model,
        fold=4,
        train=train,
        held_out=held_out,
        held_out_ids=ids,
        optim=OPTIM,
        training=TRAINING,
        seed=3,
    )
    again = classifier(dropout=0.1)
    curve = fit(again, train, optim=OPTIM, training=TRAINING, seed=3)
    logits = torch.from_numpy(predict_logits(again, held_out)).double()
    np.testing.assert_allclose(score.probabilities, logits.softmax(1).numpy(), rtol=1e-12)
    assert score.loss == pytest.approx(
        log_loss(held_out.targets, score.probabilities, labels=[0, 1, 2]), rel=1e-9
    )
    assert (score.fold, score.num_train, score.clip_ids, score.curve) == (4, 11, ids, curve)
    assert np.array_equal(score.targets, held_out.targets)
    assert score.seconds > 0


def test_a_held_out_loss_that_is_not_finite_is_an_error():
    model = classifier(train="all")
    held_out = clip_set(model.encoder, LENGTHS[:2])
    held_out.features[1][5] = np.nan
    with pytest.raises(Diverged, match=r"^the loss of held-out fold 2 is nan$"):
        score_fold(
            model, fold=2, train=clip_set(model.encoder), held_out=held_out, held_out_ids=["a", "b"],
            optim=OPTIM, training=TRAINING, seed=0,
        )  # fmt: skip


# -- several processes

SHARED = replace(OPTIM, batch_size=5, accumulation_steps=2, clip_norm=0.5)
SHARED_TRAINING = TrainingConfig(num_epochs=2, class_weights="balanced", label_smoothing=0.1)


# What looks at a batch as a whole, of two values of which some are not known.
WHOLE = TaskConfig(kind="regression", loss="ccc", variance_penalty=0.3, correlation_penalty=0.3)


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


def shared_fit(task: TaskConfig, world: World) -> Result:
    """One process's part of a training."""
    groups = [NUM_CLASSES] if task.kind == "classes" else [1, 1]
    model = Classifier(classifier(train="all").encoder, HeadConfig(widths=(7,), dropout=0.0), groups=groups)
    if world.rank:
        with torch.no_grad():  # only rank 0's start counts
            model.heads[0].layers[1].weight.add_(1.0)
    clips = clip_set(model.encoder)
    targets = clips.targets
    if task.kind == "regression":
        targets = np.random.default_rng(3).normal(size=(len(LENGTHS), 2)).astype(np.float32)
        targets[[1, 6], [0, 1]] = np.nan
    clips = replace(clips, features=Watched(clips.features), targets=targets)
    optim, training = SHARED, SHARED_TRAINING
    if task.kind == "regression":
        optim, training = replace(optim, accumulation_steps=1), TrainingConfig(num_epochs=2)
    curve = Fitting(model, clips, task=task, optim=optim, training=training, seed=0, world=world).run()
    return Result(model.state_dict(), curve, clips.features.asked)


def train_in_world(rank: int, size: int, folder: str) -> None:
    """One of `size` processes; leaves its results in the folder."""
    torch.set_num_threads(1)
    if size > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
        )
    world = World(rank=rank, size=size)
    torch.save([shared_fit(task, world) for task in (TaskConfig(), WHOLE)], f"{folder}/{size}-{rank}.pt")
    if size > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path):
    """Batches of 5, 5 and 1 clips: uneven shares, and a batch in which one process has none."""
    sizes = [len(b) for b in shuffled_batches(np.array(LENGTHS), batch_size=5, seed=0, epoch=0)]
    assert sorted(sizes) == [1, 5, 5]
    torch.multiprocessing.spawn(train_in_world, args=(2, str(tmp_path)), nprocs=2)
    train_in_world(0, 1, str(tmp_path))
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
