"""Training without a cache."""

import pytest
import torch

from tests.benchmarks.made import OPTIM
from w2v2.benchmarks import uncached_training
from w2v2.config.model import EncoderConfig, HeadConfig, TrainingConfig
from w2v2.models.classifier import Classifier, trainable_copy
from w2v2.models.pretrained import load_encoder
from w2v2.training.fold_training import score_fold


@pytest.mark.parametrize("train", ["head", "last", "no_conv"])
def test_training_without_cache_gives_the_same_losses(tiny, clips, train):
    encoder = load_encoder(EncoderConfig(name=tiny, train=train, num_last_layers=1), seed=0)
    whole = {
        name: uncached_training.clip_set(clips, clips.folds == fold)
        for name, fold in (("train", 0), ("held_out", 1))
    }
    cached = {name: uncached_training.features_of(encoder, waveforms) for name, waveforms in whole.items()}
    scores = []
    for kind, sets in ((Classifier, cached), (uncached_training.UncachedClassifier, whole)):
        torch.manual_seed(6)
        scores.append(
            score_fold(
                kind(trainable_copy(encoder), HeadConfig(dropout=0.0), groups=[3]),
                fold=1, held_out_ids=[""] * 5, optim=OPTIM, training=TrainingConfig(num_epochs=2), seed=6, **sets,
            )
        )  # fmt: skip
    assert scores[0].loss == pytest.approx(scores[1].loss, abs=1e-6)
    assert [e.train_loss for e in scores[0].curve] == pytest.approx(
        [e.train_loss for e in scores[1].curve], abs=1e-6
    )
