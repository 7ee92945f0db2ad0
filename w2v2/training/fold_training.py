"""The training and the score of one fold."""

import time
from collections.abc import Sequence

from w2v2.config.model import OptimConfig, TrainingConfig
from w2v2.config.resources import Precision
from w2v2.features.batches import ClipSet
from w2v2.models.classifier import Classifier
from w2v2.training import trainer
from w2v2.training.fold_result import FoldScore, fold_score
from w2v2.training.forward import predict_logits
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trained_weights import num_trained_parameters


def score_fold(
    model: Classifier,
    *,
    fold: int,
    train: ClipSet,
    held_out: ClipSet,
    held_out_ids: Sequence[str],
    optim: OptimConfig,
    training: TrainingConfig,
    precision: Precision = "float32",
    seed: int,
    group: ProcessGroup | None = None,
) -> FoldScore:
    """The score of a classifier on held-out clips, after training on `train` for all epochs.

    The held-out clips are used once, at the end. Raises DivergenceError when the loss is not finite, UserError
    when the GPU's memory does not suffice.
    """
    started = time.perf_counter()
    curve = trainer.train(
        model, train, optim=optim, training=training, precision=precision, seed=seed, group=group
    )
    logits = predict_logits(model, held_out, precision=precision)
    return fold_score(
        logits,
        fold=fold,
        clip_ids=held_out_ids,
        targets=held_out.targets,
        num_train=len(train),
        seconds=time.perf_counter() - started,
        curve=curve,
        num_trained_parameters=num_trained_parameters(model),
    )
