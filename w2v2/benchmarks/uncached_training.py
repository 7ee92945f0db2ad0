"""Our own training without any cache, which the training from the cache must equal."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from w2v2.audio.waveforms import normalized
from w2v2.benchmarks.result import Agreement
from w2v2.benchmarks.transformers_trainer import LabelledClips
from w2v2.config.model import OptimConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.features.batches import ClipSet
from w2v2.features.trunk_features import run_trunk
from w2v2.models.classifier import Classifier, trainable_copy
from w2v2.models.encoder import Encoder
from w2v2.models.pretrained import load_encoder
from w2v2.search.trial import fold_seed
from w2v2.storage import run_directory
from w2v2.training.fold_training import score_fold

MAX_LOSS_DIFFERENCE = 1e-3
SIDE = "ours without cache"


class UncachedClassifier(Classifier):
    """A classifier that computes its frozen part anew in every step, from waveforms."""

    def forward(
        self,
        features: Float[Tensor, "batch ..."],
        lengths: Int[Tensor, " batch"],
        descriptors: Float[Tensor, "batch descriptors"] | None = None,
    ) -> Float[Tensor, "batch outputs"]:
        """Outputs per clip."""
        return super().forward(*self.encoder.trunk(features, lengths), descriptors)


def with_recomputed(
    run: str, job: TuneFoldsConfig, optim: OptimConfig, clips: LabelledClips
) -> list[Agreement]:
    """Losses of the job's first fold against the same fold without any cache."""
    fold = 0
    seed = fold_seed(job.seed, fold)
    encoder = load_encoder(job.encoder, seed=job.seed)
    torch.manual_seed(seed)
    score = score_fold(
        UncachedClassifier(trainable_copy(encoder), job.head, groups=[clips.num_classes]),
        fold=fold,
        train=clip_set(clips, clips.folds != fold),
        held_out=clip_set(clips, clips.folds == fold),
        held_out_ids=[""] * int((clips.folds == fold).sum()),
        optim=optim,
        training=job.training,
        seed=seed,
    )
    cached = _rows(run_directory.read_table(run, "folds"), fold)[0]["loss"]
    curve = [row["train_loss"] for row in _rows(run_directory.read_table(run, "curves"), fold)]
    apart = max(abs(a - b.train_loss) for a, b in zip(curve, score.curve, strict=True))
    distances = {
        "training losses, max difference from ours": apart,
        "held-out loss, difference from ours": abs(cached - score.loss),
    }
    return [
        Agreement(part="losses", side=SIDE, what=measure, value=value, at_most=MAX_LOSS_DIFFERENCE)
        for measure, value in distances.items()
    ]


def clip_set(clips: LabelledClips, chosen: Bool[np.ndarray, " clips"]) -> ClipSet:
    """Some of the clips as normalised waveforms, for a training that caches nothing."""
    rows = np.flatnonzero(chosen)
    waveforms = [normalized(clips.waveforms[row]) for row in rows]
    lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int64)
    return ClipSet(features=waveforms, lengths=lengths, targets=clips.targets[rows])


def features_of(encoder: Encoder, waveforms: ClipSet) -> ClipSet:
    """The same clips at the encoder's cut."""
    features = run_trunk(encoder, [waveforms.features[index] for index in range(len(waveforms))])
    return replace(waveforms, features=features)


def _rows(table: pa.Table, fold: int) -> list[dict[str, Any]]:
    """Rows of the first trial's fold."""
    return [row for row in table.to_pylist() if (row["trial"], row["fold"]) == (0, fold)]
