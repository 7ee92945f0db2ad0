"""One fold of a trial, trained and scored in this process; runs on a worker.

torch is imported by the functions that compute, so that who only plans does not wait for it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from w2v2.fold_score import FoldScore
from w2v2.model_config import EncoderConfig
from w2v2.tune_config import TuneFoldsConfig


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every trial needs: settings, clips in order, and where their features are."""

    config: TuneFoldsConfig
    run: str
    classes: tuple[str, ...]
    keys: dict[EncoderConfig, str]
    """The folder of the features of each encoder that a trial may ask for."""
    clips: pa.Table
    """clip_id, fold, label, audio_digest and num_samples of every clip."""
    gpus: float

    @property
    def num_folds(self) -> int:
        """Folds of a trial."""
        return self.config.folds.num_folds


def score_here(settings: TuneFoldsConfig, plan: Plan, fold: int) -> FoldScore:
    """The fold's score, computed by this process alone."""
    from w2v2.world import World

    return score_together(settings, plan, fold, World())


def score_together(settings: TuneFoldsConfig, plan: Plan, fold: int, world: Any) -> FoldScore:
    """The fold's score, computed by this process as one of a World."""
    import torch

    from w2v2.heads import Classifier, fresh
    from w2v2.training import score_fold
    from w2v2.weights import loaded_encoder

    torch.set_num_threads(max(1, int(settings.search.cpus_per_trial)))
    encoder, _ = loaded_encoder(settings.encoder, settings.seed)
    clips = plan.clips
    held_out = np.flatnonzero(np.asarray(clips["fold"]) == fold)
    train = np.flatnonzero(np.asarray(clips["fold"]) != fold)
    seed = settings.seed * 1009 + fold
    torch.manual_seed(seed)
    return score_fold(
        Classifier(fresh(encoder), settings.head, groups=[len(plan.classes)]),
        fold=fold,
        train=_clip_set(settings, plan, train),
        held_out=_clip_set(settings, plan, held_out),
        held_out_ids=clips["clip_id"].take(held_out).to_pylist(),
        optim=settings.optim,
        training=settings.training,
        seed=seed,
        world=world,
    )


def _clip_set(settings: TuneFoldsConfig, plan: Plan, rows: np.ndarray) -> Any:
    from w2v2.clips import ClipSet
    from w2v2.feature_cache import FeatureCache, localize, open_features

    clips = plan.clips.take(pa.array(rows))
    number = {name: index for index, name in enumerate(plan.classes)}
    digests = clips["audio_digest"].to_pylist()
    cache = FeatureCache(settings.cache, plan.keys[settings.encoder])
    localize(cache, digests, num_at_once=settings.data.num_readers)
    return ClipSet(
        features=open_features(cache, digests, num_at_once=settings.data.num_readers),
        lengths=np.asarray(clips["num_samples"]),
        targets=np.array([number[label] for label in clips["label"].to_pylist()]),
    )
