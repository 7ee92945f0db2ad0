"""The encoders of a search and the features of its clips, before anything is trained."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data import transcripts
from w2v2.features.encoder_info import EncoderInfo, RecordedEncoders
from w2v2.features.requests import AudioIndex, ClipFeatures, features_in_columns, in_columns
from w2v2.models import fold_encoders, provenance
from w2v2.models.architecture import refuse_unusable
from w2v2.search.space import variants

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PreparedSearch:
    """Every encoder of the trials, and every clip's features by all of them."""

    infos: dict[EncoderConfig, EncoderInfo]
    features: Sequence[ClipFeatures]
    """The features of every clip, in order."""
    gpus: float
    """GPUs of a trial."""
    encoders_by_fold: fold_encoders.ByFold = field(default_factory=dict)
    """The encoder of each fold, where a trial's encoder is a folder with an encoder for each fold."""

    @property
    def vector_size(self) -> int:
        """The size of a clip's pooled vectors of all encoders together; 0 where an encoder's cut passes on frames."""
        sizes = {info.key: info.vector_size for info in self.infos.values()}
        return sum(sizes.values()) if all(sizes.values()) else 0

    @property
    def trunk_counts(self) -> dict[str, int]:
        """`trunk` of metrics.json: the numbers of passes through the frozen trunk, of usable clips, and of clips whose features the cache had."""
        clips = in_columns(self.features).table
        is_usable = pc.equal(clips["reason"], "")
        is_reused = pc.and_(is_usable, pc.equal(clips["num_forwards"], 0))
        return {
            "clip_forwards": pc.sum(clips["num_forwards"]).as_py() or 0,
            "num_clips": pc.sum(is_usable).as_py() or 0,
            "reused": pc.sum(is_reused).as_py() or 0,
        }

    def without_clips(self) -> "PreparedSearch":
        """The prepared search without the features of clips: with a million clips they take hundreds of megabytes."""
        return replace(self, features=())

    def long_enough(self, clips: pa.Table) -> "PreparedSearch":
        """The prepared search, with a reject for each clip that has too few frames for its transcript with some encoder."""
        features = self.features
        references = clips["reference"].to_pylist()
        for kernels, strides in {(tuple(i.kernels), tuple(i.strides)) for i in self.infos.values()}:
            made = transcripts.long_enough(features, references, kernels=kernels, strides=strides)
            features = features_in_columns(made)
        return replace(self, features=features)

    def encoder_entries(self, clips: pa.Table) -> dict[EncoderConfig, dict[str, str | list[str]]]:
        """Each encoder's digest, its cut and, where its checkpoint records it, which of the clips trained it.

        Where each fold has an encoder of its own, `of_fold` has their digests, and none has seen what its fold scores.
        """
        of_folds = {fold_encoder for encoders in self.encoders_by_fold.values() for fold_encoder in encoders}
        single = {encoder: info for encoder, info in self.infos.items() if encoder not in of_folds}
        overlaps = {e.name: provenance.encoder_overlap(e.name, clips) for e in single}
        entries: dict[EncoderConfig, dict[str, str | list[str]]] = {
            encoder: {"digest": info.digest, "cut": info.cut, **overlaps[encoder.name]}
            for encoder, info in single.items()
        }
        for encoder, encoders in self.encoders_by_fold.items():
            digests = [self.infos[fold_encoder].digest for fold_encoder in encoders]
            named = {"digest": fold_encoders.joint_digest(digests), "cut": self.infos[encoders[0]].cut}
            entries[encoder] = {**named, "seen_in_training": "", "of_fold": digests}
        return entries


def refuse_unusable_encoders(config: TuneFoldsConfig) -> None:
    """Raises UserError for an encoder that a trial may ask for and that is missing or cannot be computed here."""
    encoders = variants(config.encoder, config.search.space)
    of_fold = fold_encoders.by_fold(encoders, num_folds=config.folds.num_folds)
    for name in dict.fromkeys(encoder.name for encoder in fold_encoders.distinct(encoders, of_fold)):
        refuse_unusable(name)


def refuse_unknown_characters(config: TuneFoldsConfig, names: Sequence[str], clips: pa.Table) -> None:
    """Raises UserError where a CTC model whose vocabulary is kept lacks too many characters of the transcripts."""
    from w2v2.models.ctc_checkpoint import read_vocabulary  # imports torch

    for name in dict.fromkeys(names):
        transcripts.refuse_unknown(
            clips["reference"].to_pylist(),
            read_vocabulary(name),
            max_fraction=config.text.max_unknown_fraction,
        )


def read_prepared(
    config: TuneFoldsConfig, encoders: Sequence[EncoderConfig], clips: pa.Table
) -> PreparedSearch | None:
    """The cached encoders and features, where a search of heads needs nothing else; else None."""
    precision = config.resources.precision
    if precision != "float32" or any(encoder.train != "head" for encoder in encoders):
        return None
    kept = RecordedEncoders(config.cache, precision=precision, seed=config.seed)
    infos = {encoder: info for encoder in encoders if (info := kept.find(encoder))}
    if len(infos) < len(encoders) or not all(info.vector_size for info in infos.values()):
        return None
    from w2v2.features.cache import FeatureCache  # these import torch
    from w2v2.features.preparation import cached_features

    caches = [FeatureCache(config.cache, key) for key in dict.fromkeys(i.key for i in infos.values())]
    index = AudioIndex(config.data, config.audio, config.cache)
    if not index.has_all(clips):
        return None
    requests = index.requests(clips, is_looked_up=True)
    features = cached_features(requests, caches=caches, num_readers=config.data.num_readers)
    if features is None:
        return None
    logger.info("features: all %d clips are in the cache, no worker is needed", len(features))
    return PreparedSearch(infos=infos, features=features, gpus=0.0)
