"""The training loop."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from tests.training.made import (
    NUM_CLASSES,
    OPTIM,
    TRAINING,
    assert_same,
    classifier,
    clip_logits,
    clip_set,
    moved,
    trained,
    waveforms,
)
from w2v2.config.model import OptimConfig, TrainingConfig
from w2v2.features.batches import ClipSet
from w2v2.training import trainer
from w2v2.training.fold_result import DivergenceError, Epoch


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
        for p in parameters:  # Adam's first step is lr g / (|g| + eps), next to the decay of matrices
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
    curve = trainer.train(
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
    curve = trainer.train(
        model, clip_set(model.encoder), optim=optim, training=TrainingConfig(num_epochs=4), seed=0
    )  # 3 epochs of 3 steps and one of 2
    assert [point.learning_rate for point in curve] == pytest.approx(
        [0.01 * (1 - step / 11) for step in (2, 5, 8, 10)]
    )


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
    curve = trainer.train(
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
    with pytest.raises(DivergenceError, match=r"^the training loss is nan in epoch 1, by step 3$"):
        trainer.train(model, clips, optim=OPTIM, training=TRAINING, seed=0)


def test_an_absurd_learning_rate_diverges():
    with pytest.raises(DivergenceError, match=r"^the training loss is (nan|inf) in epoch \d, by step \d+$"):
        trained(
            classifier(),
            optim=replace(OPTIM, learning_rate=1e12, schedule="constant", warmup_fraction=0.0),
            training=TrainingConfig(num_epochs=5),
        )
