"""A classifier trained from its start to its end, and scored on a fold that it never heard."""

import time
from collections.abc import Callable

import numpy as np

from w2v2.clips import ClipSet
from w2v2.fitting import Fitting
from w2v2.fold_score import Diverged, Epoch, FoldScore
from w2v2.heads import Classifier
from w2v2.logits import predict_logits
from w2v2.model_config import OptimConfig, TrainingConfig
from w2v2.world import World


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
    """The learning curve of training a classifier in place on `train` for all epochs.

    The same seed on the same machine gives the same weights bit for bit. Several processes give the
    weights of one process to float rounding: each takes its share of every batch. Raises Diverged when
    the loss is not finite, UserError when the GPU's memory does not suffice.
    """
    fitting = Fitting(model, train, optim=optim, training=training, seed=seed, world=world)
    return fitting.run(on_epoch=lambda fitting: on_epoch(fitting.position.curve[-1]))


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
