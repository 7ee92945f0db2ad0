"""The clips for pre-training an encoder: long enough, split by speaker, and for encoders by fold without the fold's speakers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.pretrain import PretrainConfig
from w2v2.data import file_facts, folds, manifest, splits, usable_clips
from w2v2.data.corpora.rows import EXCLUDED
from w2v2.data.manifest import Manifest
from w2v2.errors import Reject, UserError
from w2v2.features.encoder_info import EncoderInfo
from w2v2.features.requests import ClipFeatures, features_in_columns
from w2v2.models import fold_encoders
from w2v2.storage import run_directory
from w2v2.wording import counted, listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One encoder that is pre-trained: the settings and the clips, with their splits train and val."""

    config: PretrainConfig
    corpus: Manifest


def read_clips(config: PretrainConfig) -> Manifest:
    """The clips by name, without those of data.exclude_speakers.

    Raises UserError for excluded speakers without clips, for too many rejects, and where too few clips or speakers are
    left to pre-train on.
    """
    data = usable_clips.with_demo_made(config.data)
    read = manifest.read(data, task="classes" if config.per_fold else "none")
    corpus = file_facts.without_missing_files(read, data)
    if config.per_fold:
        usable_clips.refuse_foreign_folds(data, config.folds)
    manifest.check_rejects(corpus, max_reject_fraction=data.max_reject_fraction, run=config.run)
    unknown = sorted(set(config.data.exclude_speakers) - set(corpus.clips["speaker"].to_pylist()))
    if unknown:
        raise UserError(
            f"data.exclude_speakers names {listed(unknown)}, of whom there is no clip in {config.data.uri}: check the "
            "names in its manifest, or remove them"
        )
    excluded = pc.is_in(corpus.clips["speaker"], pa.array(config.data.exclude_speakers, pa.string()))
    clips = corpus.clips.filter(pc.invert(excluded))
    logger.info(
        "data: %d clips, %d left out of %d speakers to exclude, %d rejected by name",
        len(clips),
        len(corpus.clips) - len(clips),
        len(config.data.exclude_speakers),
        len(corpus.rejects),
    )
    if len(clips) < 2:
        raise UserError(
            f"{counted(len(clips), 'clips')} left to pre-train on, wanted at least 2: look at data.uri"
        )
    if config.per_fold:  # both find early what would not work
        folds.assign(clips, config.folds)
    splits.held_back(clips, fraction=config.training.val_fraction, seed=config.seed)
    num_excluded = len(corpus.clips) - len(clips)
    passed_over = dict(corpus.passed_over) | ({EXCLUDED: num_excluded} if num_excluded else {})
    return replace(corpus, clips=clips, passed_over=passed_over)


def with_too_short(
    config: PretrainConfig, prepared: Sequence[ClipFeatures], info: EncoderInfo
) -> Sequence[ClipFeatures]:
    """The same clips, with a reject for each that is too short for a masked span."""
    needed = config.mask.min_frames
    for kernel, stride in zip(info.kernels[::-1], info.strides[::-1], strict=True):
        needed = (needed - 1) * stride + kernel
    detail = f"s < {needed / SAMPLE_RATE:.3f} s, {config.mask.min_frames} frames: a masked span and a frame to predict it from"
    return features_in_columns(
        replace(
            clip, reject=Reject(kind="too short", detail=f"{clip.num_samples / SAMPLE_RATE:.3f} {detail}")
        )
        if not clip.reject and clip.num_samples < needed
        else clip
        for clip in prepared
    )


def speaker_folds(
    config: PretrainConfig, corpus: Manifest, prepared: Sequence[ClipFeatures]
) -> dict[str, int]:
    """The fold of each speaker, as in a search: computed from all usable clips, also those too short to pre-train on."""
    usable = corpus.clips.filter(pa.array([not clip.reject for clip in prepared]))
    assigned = folds.assign(usable, config.folds)
    return dict(zip(assigned["speaker"].to_pylist(), assigned["fold"].to_pylist(), strict=True))


def with_folds(config: PretrainConfig, corpus: Manifest, fold_of: Mapping[str, int]) -> Manifest:
    """The clips with the fold of their speaker, and no audio in two folds; the folder is marked as one of encoders by fold."""
    fold = [fold_of[speaker] for speaker in corpus.clips["speaker"].to_pylist()]
    clips = corpus.clips.append_column("fold", pa.array(fold, pa.int64()))
    folds.audit(clips)
    run_directory.keep_manifest(config.run, clips, corpus.rejects)
    fold_encoders.write(config.run, num_folds=config.folds.num_folds)
    return replace(corpus, clips=clips)


def whole(config: PretrainConfig, corpus: Manifest) -> Part:
    """The part of an encoder that is pre-trained on all clips, with their splits train and val.

    Raises UserError where fewer than two clips would train it.
    """
    clips = splits.hold_back(corpus.clips, fraction=config.training.val_fraction, seed=config.seed)
    train = clips.filter(pc.equal(clips["split"], "train"))
    if len(train) < 2:
        raise UserError(
            f"{counted(len(train), 'clips')} left to pre-train on, wanted at least 2: look at data.uri"
        )
    logger.info(
        "splits: %s of %s train (%.2f hours), %d of %d others validate",
        counted(len(train), "clips"),
        counted(len(train["speaker"].unique()), "speakers"),
        pc.sum(train["duration_s"]).as_py() / 3600,
        len(clips) - len(train),
        len(clips["speaker"].unique()) - len(train["speaker"].unique()),
    )
    return Part(config=config, corpus=replace(corpus, clips=clips))


def without_fold(config: PretrainConfig, corpus: Manifest, fold: int) -> Part:
    """The part of a fold's encoder, which is pre-trained without the speakers that the fold holds out."""
    held_out = corpus.clips.filter(pc.equal(corpus.clips["fold"], fold))["speaker"].unique().to_pylist()
    excluded = tuple(sorted({*config.data.exclude_speakers, *held_out}))
    config_of_fold = replace(
        config,
        run=fold_encoders.run_of_fold(config.run, fold),
        per_fold=False,
        data=replace(config.data, exclude_speakers=excluded),
    )
    clips = corpus.clips.filter(pc.not_equal(corpus.clips["fold"], fold)).drop_columns(["fold"])
    logger.info("fold %d: without the speakers %s", fold, listed(sorted(held_out)))
    num_excluded = corpus.passed_over.get(EXCLUDED, 0) + len(corpus.clips) - len(clips)
    passed_over = {**corpus.passed_over, EXCLUDED: num_excluded}
    return whole(config_of_fold, replace(corpus, clips=clips, passed_over=passed_over))
