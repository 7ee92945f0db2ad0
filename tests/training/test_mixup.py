"""Mixup against its equation, and as drawn by seed, epoch and batch alone."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.made import LENGTHS, NUM_CLASSES, OPTIM, assert_same, classifier, clip_set, trained
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import HeadConfig, OptimConfig, TaskConfig, TrainingConfig
from w2v2.errors import UserError
from w2v2.models.classifier import Classifier
from w2v2.training.forward import predict_logits
from w2v2.training.mixup import mixed_batch, mixed_targets
from w2v2.training.trainer import Trainer, train

ONE_BATCH = replace(OPTIM, batch_size=100)


@pytest.mark.parametrize(
    "settings", [dict(train="head"), dict(train="last", num_last_layers=1), dict(train="all")], ids=str
)
@pytest.mark.parametrize("accumulation_steps", [1, 4])
def test_a_step_is_the_shares_sum_of_both_clips_losses(settings, accumulation_steps):
    """Zhang et al. 2018: x = s x_i + (1 - s) x_j, and the loss s l(f(x), y_i) + (1 - s) l(f(x), y_j), clip by clip."""
    model = classifier(**settings)
    by_hand, clips = copy.deepcopy(model), clip_set(model.encoder)
    training = TrainingConfig(num_epochs=1, class_weights="balanced", label_smoothing=0.1, mixup_alpha=0.7)
    optim = replace(ONE_BATCH, accumulation_steps=accumulation_steps)
    one = Trainer(model, clips, optim=optim, training=training, seed=3)
    order = one._plan[0][0]
    curve = one.run()
    batch = mixed_batch(order, alpha=0.7, seed=3, epoch=0, number=0)
    counts = np.bincount(clips.targets)
    weights = torch.tensor(len(order) / (NUM_CLASSES * counts), dtype=torch.float32)
    loss = weight = 0.0
    for clip, partner, share in zip(batch.clips, batch.partners, batch.shares, strict=True):
        first, second = (torch.from_numpy(np.array(clips.features[i])) for i in (clip, partner))
        length = max(len(first), len(second))
        mixed = torch.zeros(length, *first.shape[1:])
        mixed[: len(first)] += float(share) * first
        mixed[: len(second)] += (1 - float(share)) * second
        logits = by_hand(mixed[None], torch.tensor([length]))
        for target, part in ((clips.targets[clip], share), (clips.targets[partner], 1 - share)):
            cross_entropy = torch.nn.functional.cross_entropy(
                logits, torch.tensor([target]), weight=weights, label_smoothing=0.1, reduction="sum"
            )
            loss, weight = loss + float(part) * cross_entropy, weight + float(part) * float(weights[target])
    assert curve[0].train_loss == pytest.approx(float(loss.detach()) / weight, rel=1e-4)
    (loss / weight).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    for name, p in by_hand.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(gradients[name], p.grad, atol=2e-5, rtol=1e-3, msg=name)
    assert (batch.clips != batch.partners).any()


def test_alpha_zero_is_training_as_it_was_and_mixing_is_another():
    plain, _ = trained(classifier())
    off, _ = trained(classifier(), training=TrainingConfig(num_epochs=2, mixup_alpha=0.0))
    mixed, _ = trained(classifier(), training=TrainingConfig(num_epochs=2, mixup_alpha=0.4))
    assert_same(plain, off, atol=0.0)
    assert any(not torch.equal(plain[name], mixed[name]) for name in plain)


def test_draws_are_of_seed_epoch_and_batch_alone():
    clips = np.arange(100, 130)

    def draw(**changed):
        return mixed_batch(clips, **{"alpha": 0.4, "seed": 1, "epoch": 2, "number": 3} | changed)

    first, again = draw(), draw()
    np.testing.assert_array_equal(first.partners, again.partners)
    np.testing.assert_array_equal(first.shares, again.shares)
    for changed in (dict(seed=2), dict(epoch=3), dict(number=4)):
        assert not np.array_equal(draw(**changed).shares, first.shares)
    assert sorted(first.partners) == clips.tolist() and first.shares.dtype == np.float32
    part = first.take(np.array([4, 9]))
    np.testing.assert_array_equal(part.partners, first.partners[[4, 9]])
    assert part.needed.tolist() == [104, 109, *first.partners[[4, 9]]]
    assert draw(alpha=0.0).partners is None


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_have_the_moments_of_the_beta_distribution(alpha):
    shares = np.concatenate(
        [mixed_batch(np.arange(50), alpha=alpha, seed=0, epoch=0, number=n).shares for n in range(200)]
    )
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_targets_are_mixed_and_what_one_clip_lacks_is_missing():
    batch = mixed_batch(np.arange(4), alpha=1.0, seed=5, epoch=0, number=0)
    labels = np.array([[1, 0], [0, np.nan], [1, 1], [0, 1]], np.float32)
    mixed = mixed_targets(labels, batch, num_outputs=2).numpy()
    share = batch.shares[:, None]
    np.testing.assert_allclose(mixed, share * labels + (1 - share) * labels[batch.partners], rtol=1e-6)
    assert np.isnan(mixed[:, 1]).sum() in (1, 2) and not np.isnan(mixed[:, 0]).any()
    classes = mixed_targets(np.array([0, 2, 2, 1]), batch, num_outputs=3).numpy()
    np.testing.assert_allclose(classes.sum(1), 1.0, rtol=1e-6)


def test_binary_cross_entropy_is_linear_in_mixed_labels():
    model = classifier(train="head")
    model = Classifier(model.encoder, HeadConfig(dropout=0.0), groups=[1, 1])
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (len(LENGTHS), 2)).astype(np.float32)
    clips = replace(clip_set(model.encoder), targets=labels)
    start = copy.deepcopy(model)
    task, training = TaskConfig(kind="multi_label"), TrainingConfig(num_epochs=1, mixup_alpha=0.5)
    one = Trainer(model, clips, optim=ONE_BATCH, training=training, seed=1, task=task)
    batch = mixed_batch(one._plan[0][0], alpha=0.5, seed=1, epoch=0, number=0)
    curve = one.run()
    vectors = torch.from_numpy(np.stack([np.array(f) for f in clips.features]))
    share = torch.from_numpy(batch.shares)[:, None]
    logits = start.heads[0](share * vectors[batch.clips] + (1 - share) * vectors[batch.partners])
    logits = torch.cat(
        [logits, start.heads[1](share * vectors[batch.clips] + (1 - share) * vectors[batch.partners])], 1
    )

    def losses(rows):
        wanted = torch.from_numpy(labels[rows])
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")

    expected = (share * losses(batch.clips) + (1 - share) * losses(batch.partners)).mean().item()
    assert curve[0].train_loss == pytest.approx(expected, rel=1e-5)


def test_classes_are_still_learnt():
    model = classifier(train="head")
    clips = clip_set(model.encoder)
    features = [np.array(f) + 3.0 * t for f, t in zip(clips.features, clips.targets, strict=True)]
    clips = replace(clips, features=features)
    optim, training = (
        OptimConfig(learning_rate=0.03, batch_size=4),
        TrainingConfig(num_epochs=40, mixup_alpha=0.2),
    )
    before = (predict_logits(model, clips).argmax(1) == clips.targets).mean()
    curve = train(model, clips, optim=optim, training=training, seed=0)
    after = (predict_logits(model, clips).argmax(1) == clips.targets).mean()
    assert after > 0.8 > before and curve[-1].train_loss < curve[0].train_loss


@pytest.mark.parametrize(
    "task",
    [
        TaskConfig(kind="transcript"),
        TaskConfig(kind="regression", loss="ccc"),
        TaskConfig(kind="regression", variance_penalty=0.1),
    ],
    ids=lambda task: task.kind + task.loss,
)
def test_losses_that_do_not_add_up_over_clips_are_refused(task):
    training = TrainingConfig(mixup_alpha=0.2)
    with pytest.raises(
        UserError, match=r"^training.mixup_alpha is for losses that add up over clips .* leave it out, got "
    ):
        FinetuneConfig(task=task, training=training)
    assert FinetuneConfig(task=TaskConfig(kind="regression"), training=training)


def test_a_negative_alpha_is_refused():
    with pytest.raises(UserError, match=r"^training.mixup_alpha must be at least 0, got -0.1$"):
        TrainingConfig(mixup_alpha=-0.1)
