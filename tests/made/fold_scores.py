"""The score of a fold, as small as it can be."""

import numpy as np

from w2v2.training.fold_result import Epoch, FoldScore


def fold_score(fold: int) -> FoldScore:
    """One clip, predicted rightly, after one epoch."""
    return FoldScore(
        fold=fold,
        clip_ids=["a"],
        targets=np.array([0]),
        probabilities=np.array([[1.0]]),
        loss=0.0,
        num_train=1,
        seconds=1.0,
        curve=[Epoch(epoch=1, train_loss=0.0, train_uar=1.0, learning_rate=0.1)],
    )
