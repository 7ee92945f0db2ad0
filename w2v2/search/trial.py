"""One fold of a trial, trained and scored in this process; runs on a worker.

torch is imported by the functions that compute, so that planning does not wait for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data.clip_columns import TextColumn
from w2v2.data.manifest import classes_of
from w2v2.data.targets import class_numbers
from w2v2.models.fold_encoders import ByFold
from w2v2.search.fold_store import FoldStore
from w2v2.search.prepared_search import PreparedSearch
from w2v2.storage.mapped_tables import whole
from w2v2.training.fold_result import FoldResult

if TYPE_CHECKING:  # imports torch
    from w2v2.features.batches import ClipSet
    from w2v2.training.process_group import ProcessGroup

REPLICATE_STRIDE, OUTER_STRIDE = 100_003, 1_000_003
"""The distance between the seeds of one replicate, or outer fold, and the next; torch and NumPy take seeds below
2**63."""
MAX_BYTES = 2**30
"""The most bytes of all clips' vectors in float32 for one process; larger ones are left to workers, which read what
they need."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The plan that every trial needs: settings, clips in order, and the place of their features."""

    config: TuneFoldsConfig
    run: str
    classes: tuple[str, ...]
    keys: dict[EncoderConfig, str]
    """The folder of the features of each encoder of the trials and their folds."""
    clips: pa.Table
    """clip_id, fold, audio_digest, num_samples, and label or reference, of every clip."""
    gpus: float
    encoders_by_fold: ByFold = field(default_factory=dict)
    """The encoder of each fold, where a trial's encoder is a folder with an encoder for each fold."""
    vector_size: int = 0
    """The size of a clip's pooled vectors of all these encoders together; 0 where an encoder's cut passes on frames."""
    replicate: int = 0
    """Selects the seeds of the trainings: 0 are the seeds of the search, other numbers new ones."""
    outer_fold: int | None = None
    """In an inner search of nested cross-validation, the fold that is left out of clips; the other folds are
    renumbered."""
    train_rows: Mapping[int, Int[np.ndarray, " _"]] = field(default_factory=dict)
    """The rows of the training clips of a fold, where not all clips outside the fold train it."""

    @property
    def trains_heads_alone(self) -> bool:
        """Whether only heads are trained, on vectors that fit in the memory of one process, which can then train them all."""
        config = self.config
        return (
            all(key.startswith("pooled") for key in self.keys.values())
            and 0 < 4 * self.vector_size * len(self.clips) <= MAX_BYTES
            and config.resources.num_workers == 1
            and config.resources.precision == "float32"
            and config.optim.accumulation_steps == 1
            and "optim.accumulation_steps" not in config.search.space
        )

    @property
    def num_folds(self) -> int:
        """Folds of a trial."""
        return self.config.folds.num_folds - (self.outer_fold is not None)

    @property
    def fold_store(self) -> FoldStore:
        """The fold store of the plan's trials."""
        series = "trial" if self.outer_fold is None else f"outer-{self.outer_fold:02d}-trial"
        return FoldStore(self.run, series=series)

    def seed_of(self, fold: int) -> int:
        """The seed of a fold's training, which no other plan of the run has."""
        place = 0 if self.outer_fold is None else self.outer_fold + 1
        return fold_seed(self.config.seed + REPLICATE_STRIDE * self.replicate + OUTER_STRIDE * place, fold)

    def rows_of(self, fold: int) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " held_out"]]:
        """The rows of a fold's training clips and of its held-out clips."""
        folds = np.asarray(self.clips["fold"])
        train = self.train_rows.get(fold, np.flatnonzero(folds != fold))
        assert (folds[train] != fold).all()
        return train, np.flatnonzero(folds == fold)

    def encoder_of(self, encoder: EncoderConfig, fold: int) -> EncoderConfig:
        """The encoder of a fold, in a trial with this encoder."""
        if encoder not in self.encoders_by_fold:
            return encoder
        of_folds = self.encoders_by_fold[encoder]
        assert len(of_folds) == self.num_folds  # else these would be encoders of other folds
        return of_folds[fold]


def plan_trials(config: TuneFoldsConfig, prepared: PreparedSearch, clips: pa.Table) -> SearchPlan:
    """The plan of a search whose features are prepared; clips are the usable ones, with their folds."""
    is_text = config.task.kind == "transcript"
    target = "reference" if is_text else "label"
    return SearchPlan(
        config=config,
        run=config.run,
        classes=() if is_text else tuple(classes_of(clips)),
        keys={encoder: info.key for encoder, info in prepared.infos.items()},
        clips=clips.select(["clip_id", "fold", target, "audio_digest", "num_samples"]),
        gpus=prepared.gpus,
        encoders_by_fold=prepared.encoders_by_fold,
        vector_size=prepared.vector_size,
    )


def fold_seed(seed: int, fold: int) -> int:
    """The seed of a fold's training: of its head's first weights and of its batches."""
    return seed * 1009 + fold


def score_here(settings: TuneFoldsConfig, plan: SearchPlan, fold: int) -> FoldResult:
    """The fold's score, computed by this process alone."""
    from w2v2.training.process_group import ProcessGroup

    return score_together(settings, plan, fold, ProcessGroup())


def score_together(
    settings: TuneFoldsConfig, plan: SearchPlan, fold: int, group: "ProcessGroup"
) -> FoldResult:
    """The fold's score, computed by this process as one of a ProcessGroup."""
    if settings.task.kind == "transcript":
        from w2v2.search.transcript_trial import score_transcripts

        return score_transcripts(settings, plan, fold, group)
    import torch

    from w2v2.models.classifier import Classifier, trainable_copy
    from w2v2.models.lora import add_lora
    from w2v2.models.pretrained import loaded_encoder
    from w2v2.training.fold_training import score_fold

    torch.set_num_threads(max(1, int(settings.resources.cpus_per_worker)))
    settings = replace(settings, encoder=plan.encoder_of(settings.encoder, fold))
    encoder, _ = loaded_encoder(settings.encoder, settings.seed)
    train, held_out = plan.rows_of(fold)
    seed = plan.seed_of(fold)
    torch.manual_seed(seed)
    model = Classifier(trainable_copy(encoder), settings.head, groups=[len(plan.classes)])
    add_lora(model.encoder, settings.lora)
    return score_fold(
        model,
        fold=fold,
        train=clip_set(settings, plan, train),
        held_out=clip_set(settings, plan, held_out),
        held_out_ids=TextColumn(whole(plan.clips["clip_id"]).take(pa.array(held_out))),
        optim=settings.optim,
        training=settings.training,
        precision=settings.resources.precision,
        seed=seed,
        group=group,
    )


def clip_set(
    settings: TuneFoldsConfig,
    plan: SearchPlan,
    rows: Int[np.ndarray, " rows"],
    *,
    targets: Int[np.ndarray, "rows ..."] | None = None,
) -> "ClipSet":
    """The clips at these rows with their features from the cache; targets are the numbers of their classes unless given."""
    from w2v2.features.batches import ClipSet
    from w2v2.features.cache import FeatureCache, localize
    from w2v2.features.packed_vectors import open_features

    clips, num_at_once = plan.clips.take(pa.array(rows)), settings.data.num_readers
    cache = FeatureCache(settings.cache, plan.keys[settings.encoder])
    if not cache.pooled:
        localize(cache, clips["audio_digest"].to_pylist(), num_at_once=num_at_once)
    return ClipSet(
        features=open_features(cache, clips["audio_digest"], num_at_once=num_at_once),
        lengths=np.asarray(clips["num_samples"]),
        targets=class_numbers(clips["label"], plan.classes) if targets is None else targets,
    )
