"""Which clips a model is fine-tuned and scored on: with labels or transcripts, usable audio, and splits of their own speakers."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from w2v2.config.data import SPLITS
from w2v2.config.finetune import FinetuneConfig
from w2v2.data import file_facts, manifest, splits, transcripts, usable_clips
from w2v2.data.manifest import Manifest
from w2v2.features.encoder_info import EncoderInfo
from w2v2.features.requests import ClipFeatures, features_in_columns

logger = logging.getLogger(__name__)


def read_clips(config: FinetuneConfig) -> Manifest:
    """The clips of the data; they are split here once, so that impossible splits are reported before audio is read."""
    data = usable_clips.with_demo_made(config.data, task=config.task.kind)
    corpus = file_facts.without_missing_files(manifest.read(data, task=config.task.kind), data)
    if config.task.kind == "transcript":
        corpus = transcripts.with_references(corpus, config.text)
    if config.task.kind == "classes":
        manifest.check(corpus, max_reject_fraction=data.max_reject_fraction, run=config.run)
    else:
        manifest.check_rejects(corpus, max_reject_fraction=data.max_reject_fraction, run=config.run)
    split_clips(config, corpus)
    usable_clips.log_clips(corpus)
    return corpus


def split_clips(config: FinetuneConfig, corpus: Manifest) -> Manifest:
    """The clips with their splits."""
    clips = splits.assign(corpus.clips, config.split, config.folds, need_val=config.needs_val)
    return replace(corpus, clips=clips)


def long_enough(
    config: FinetuneConfig,
    corpus: Manifest,
    prepared: Sequence[ClipFeatures],
    info: EncoderInfo,
) -> Sequence[ClipFeatures]:
    """The clips, with a reject for each that has too few frames for its transcript, even when augmented."""
    speed = config.augment.speed[1] if "speed" in config.augment.kinds else 1.0
    made = transcripts.long_enough(
        prepared,
        corpus.clips["reference"].to_pylist(),
        kernels=info.kernels,
        strides=info.strides,
        speed=max(speed, 1.0),
    )
    return features_in_columns(made)


def with_usable_audio(config: FinetuneConfig, corpus: Manifest, prepared: Sequence[ClipFeatures]) -> Manifest:
    """The clips whose audio could be used, with their splits, audited."""
    corpus = usable_clips.with_usable_audio(
        config.run, corpus, prepared, max_reject_fraction=config.data.max_reject_fraction
    )
    corpus = split_clips(config, corpus)
    splits.audit(corpus.clips)
    counts = splits.num_clips(corpus.clips)
    counts_by_split = ", ".join(f"{counts[name]} {name}" for name in SPLITS if name in counts)
    logger.info("splits: %s; no speaker and no audio in two", counts_by_split)
    return corpus
