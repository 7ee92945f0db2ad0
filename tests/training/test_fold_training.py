"""A fold: training, then the held-out clips once."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from tests.training.made import LENGTHS, OPTIM, TRAINING, classifier, clip_set
from w2v2.training import trainer
from w2v2.training.fold_result import DivergenceError
from w2v2.training.fold_training import score_fold
from w2v2.training.forward import predict_logits


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
    curve = trainer.train(again, train, optim=OPTIM, training=TRAINING, seed=3)
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
    with pytest.raises(DivergenceError, match=r"^the loss of held-out fold 2 is nan$"):
        score_fold(
            model, fold=2, train=clip_set(model.encoder), held_out=held_out, held_out_ids=["a", "b"],
            optim=OPTIM, training=TRAINING, seed=0,
        )  # fmt: skip
