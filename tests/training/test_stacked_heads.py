"""Heads trained side by side end as each does alone, under the trainer that trains everything else."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from tests.training.made import SMALL
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.features.batches import ClipSet
from w2v2.models.classifier import Classifier
from w2v2.models.encoder import Encoder
from w2v2.training import fold_draws
from w2v2.training.fold_draws import Fold, FoldDraws, PooledClips, StackSettings
from w2v2.training.fold_result import DivergenceError, FoldScore
from w2v2.training.fold_training import score_fold
from w2v2.training.stacked_heads import StackedHeads

NUM_CLIPS, NUM_CLASSES, DIM = 61, 4, 48
ROUNDING = 1e-6
"""Of probabilities. Some processors add the products of a padded batch in another order than those of the batch as it is."""
TRIALS = [
    OptimConfig(learning_rate=3e-3, weight_decay=0.2, batch_size=8),
    OptimConfig(learning_rate=1e-2, beta1=0.8, beta2=0.98, eps=1e-6, schedule="cosine", warmup_fraction=0.0),
    OptimConfig(learning_rate=2e-2, amsgrad=True, schedule="late_decay", warmup_fraction=0.3),
]


def encoder(**settings) -> Encoder:
    torch.manual_seed(3)
    return Encoder(
        Wav2Vec2Model(Wav2Vec2Config(**SMALL | {"hidden_size": DIM})),
        EncoderConfig(train="head", **settings),
        normalize=True,
    )


def clips_of(shape: tuple[int, ...]) -> PooledClips:
    """Vectors that the classes shift a little, of clips of different lengths, in lopsided classes."""
    rng = np.random.default_rng(5)
    targets = rng.choice(NUM_CLASSES, size=NUM_CLIPS, p=[0.5, 0.2, 0.2, 0.1])
    vectors = rng.normal(size=(NUM_CLIPS, *shape)) + 0.5 * targets[(...,) + (None,) * len(shape)]
    return PooledClips(
        vectors=torch.from_numpy(vectors.astype(np.float32)),
        lengths=rng.integers(400, 1200, size=NUM_CLIPS),
        targets=targets,
        clip_ids=pa.array([f"clip {index}" for index in range(NUM_CLIPS)]),
        num_classes=NUM_CLASSES,
    )


def folds_of(sizes: tuple[int, ...]) -> list[Fold]:
    """Folds whose held-out parts have these sizes, so that some take fewer steps than others."""
    ends = np.cumsum(sizes)
    rows = np.arange(NUM_CLIPS)
    parts = [rows[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return [
        Fold(number=n, train=np.setdiff1d(rows, p), held_out=p, seed=1009 + n) for n, p in enumerate(parts)
    ]


def alone(
    clips: PooledClips, fold: Fold, optim: OptimConfig, head: HeadConfig, training: TrainingConfig, **settings
) -> FoldScore:
    """The fold as a worker trains it when it trains nothing else."""

    def part(rows: np.ndarray) -> ClipSet:
        features = [vector.numpy() for vector in clips.vectors[torch.from_numpy(rows)]]
        return ClipSet(features=features, lengths=clips.lengths[rows], targets=clips.targets[rows])

    made = encoder(**settings)
    torch.manual_seed(fold.seed)
    return score_fold(
        Classifier(made, head, groups=[NUM_CLASSES]),
        fold=fold.number,
        train=part(fold.train),
        held_out=part(fold.held_out),
        held_out_ids=clips.clip_ids.take(fold.held_out).to_pylist(),
        optim=optim,
        training=training,
        seed=fold.seed,
    )


def stacked(
    clips: PooledClips,
    folds: list[Fold],
    optims: list[OptimConfig],
    head: HeadConfig,
    training: TrainingConfig,
    *,
    mixes: bool = False,
) -> list[list[FoldScore | DivergenceError]]:
    settings = StackSettings.of(head=head, training=training, optim=optims[0], mixes=mixes)
    return StackedHeads(FoldDraws(clips, folds, settings), optims).run()


def assert_close(one: FoldScore | DivergenceError, other: FoldScore, *, atol: float) -> None:
    assert isinstance(one, FoldScore)
    for name in ("fold", "clip_ids", "num_train", "num_trained_parameters"):
        assert getattr(one, name) == getattr(other, name)
    assert one.num_trained_parameters > 0
    np.testing.assert_array_equal(one.targets, other.targets)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=atol, rtol=0)
    assert [p.epoch for p in one.curve] == [p.epoch for p in other.curve]
    assert [p.learning_rate for p in one.curve] == [p.learning_rate for p in other.curve]
    for point, wanted in zip(one.curve, other.curve, strict=True):
        assert point.train_uar == pytest.approx(wanted.train_uar, abs=1e-12)
        assert point.train_loss == pytest.approx(wanted.train_loss, rel=1e-5)


@pytest.mark.parametrize(
    ("head", "training"),
    [
        (HeadConfig(), TrainingConfig(num_epochs=4)),
        (HeadConfig(dropout=0.0), TrainingConfig(num_epochs=3, class_weights="balanced")),
        (HeadConfig(dropout=0.3), TrainingConfig(num_epochs=3, sampling="balanced")),
    ],
)
def test_each_linear_head_is_what_it_is_alone_up_to_rounding(head, training):
    clips, folds = clips_of((DIM,)), folds_of((10, 25, 15, 11))
    heads = stacked(clips, folds, TRIALS, head, training)
    for trial, optim in enumerate(TRIALS):
        for index, fold in enumerate(folds):
            assert_close(heads[trial][index], alone(clips, fold, optim, head, training), atol=ROUNDING)


@pytest.mark.parametrize(
    ("optim", "training", "head", "settings"),
    [
        (OptimConfig(clip_norm=0.5, learning_rate=1e-2), TrainingConfig(num_epochs=3), HeadConfig(), {}),
        (
            OptimConfig(late_batch_factor=2, learning_rate=1e-2),
            TrainingConfig(num_epochs=4),
            HeadConfig(),
            {},
        ),
        (
            OptimConfig(learning_rate=1e-2),
            TrainingConfig(num_epochs=3, label_smoothing=0.1),
            HeadConfig(),
            {},
        ),
        (OptimConfig(learning_rate=1e-2), TrainingConfig(), HeadConfig(widths=(24, 7), dropout=0.3), {}),
        (OptimConfig(learning_rate=1e-2), TrainingConfig(num_epochs=3), HeadConfig(), {"layer": "mix"}),
        (OptimConfig(learning_rate=1e-2), TrainingConfig(num_epochs=3), HeadConfig(), {"layer": "concat"}),
        (
            OptimConfig(learning_rate=1e-2),
            TrainingConfig(num_epochs=3, mixup_alpha=0.4, class_weights="balanced"),
            HeadConfig(dropout=0.2),
            {},
        ),
        (
            OptimConfig(learning_rate=1e-2),
            TrainingConfig(num_epochs=3, mixup_alpha=0.2, label_smoothing=0.1),
            HeadConfig(widths=(9,)),
            {"layer": "mix"},
        ),
    ],
)
def test_what_is_added_up_in_another_order_differs_by_rounding(optim, training, head, settings):
    shape = (4, DIM) if settings else (DIM,)
    clips, folds = clips_of(shape), folds_of((20, 41))  # the last batch of the first fold has one clip
    heads = stacked(clips, folds, [optim, TRIALS[0]], head, training, mixes=settings.get("layer") == "mix")
    for index, fold in enumerate(folds):
        assert_close(heads[0][index], alone(clips, fold, optim, head, training, **settings), atol=ROUNDING)


@pytest.mark.parametrize("batch_size", [8, 32, 64])  # 64: fewer clips than a batch
def test_a_fold_left_out_and_a_trial_more_change_nothing(batch_size):
    head, training = HeadConfig(), TrainingConfig(num_epochs=3)
    clips, folds = clips_of((DIM,)), folds_of((10, 25, 26))
    trials = [replace(optim, batch_size=batch_size) for optim in TRIALS]
    together = stacked(clips, folds, trials, head, training)
    fewer = stacked(clips, folds[1:], trials[1:], head, training)
    for trial in (0, 1):
        for fold in (0, 1):
            assert_close(fewer[trial][fold], together[trial + 1][fold + 1], atol=0)


@pytest.mark.parametrize("bytes_kept", [0, 2**20])
def test_the_next_trials_of_a_shape_have_the_same_batches_and_dropout(monkeypatch, bytes_kept):
    monkeypatch.setattr(fold_draws, "MAX_KEPT_BYTES", bytes_kept)
    head, training = HeadConfig(dropout=0.2), TrainingConfig(num_epochs=3)
    settings = StackSettings.of(head=head, training=training, optim=TRIALS[0], mixes=False)
    draws = FoldDraws(clips_of((DIM,)), folds_of((20, 20, 21)), settings)
    first, second = StackedHeads(draws, TRIALS[:1]).run(), StackedHeads(draws, TRIALS[:2]).run()
    for fold in range(3):
        alike = second[0][fold]
        assert isinstance(alike, FoldScore)
        assert_close(first[0][fold], alike, atol=0)


def test_a_head_that_diverges_is_reported_and_leaves_the_others_alone():
    clips, folds, head, training = (
        clips_of((DIM,)),
        folds_of((30, 31)),
        HeadConfig(),
        TrainingConfig(num_epochs=3),
    )
    wild = OptimConfig(learning_rate=1e38)
    heads = stacked(clips, folds, [TRIALS[0], wild], head, training)
    for index, fold in enumerate(folds):
        assert_close(heads[0][index], alone(clips, fold, TRIALS[0], head, training), atol=ROUNDING)
        with pytest.raises(DivergenceError) as error:
            alone(clips, fold, wild, head, training)
        assert str(heads[1][index]) == str(error.value)
