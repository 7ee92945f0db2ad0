#!/usr/bin/env python
"""Search AdamW's hyperparameters; score every trial by cross-validation over folds of unseen speakers.

    jobs/tune_folds.py                                            # the built-in corpus, a few minutes
    jobs/tune_folds.py --data.uri gs://bucket/ravdess --encoder.name facebook/wav2vec2-base \
        --encoder.train last --search.num_trials 30 --run gs://bucket/runs/base-last2
    ray job submit --working-dir . -- python jobs/tune_folds.py --data.uri gs://bucket/ravdess ...

Reads   RAVDESS files (any nesting) or a CSV of clips, local or gs://.
Writes  <run>/config.yaml manifest.parquet rejects.parquet trials.parquet folds.parquet curves.parquet
        predictions.parquet metrics.json best.yaml report.html plots/ tables/ tensorboard/ study.db ledger/
The same command continues a run that was stopped: finished folds are not trained again.
"""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from w2v2.config import command_line
from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data import manifest, usable_clips
from w2v2.evaluation import baseline_comparison
from w2v2.features.encoder_info import EncoderInfo, KnownEncoders
from w2v2.features.preparation import cached_features
from w2v2.features.requests import AudioIndex, ClipFeatures
from w2v2.models import provenance
from w2v2.models.pretrained_name import check_folder
from w2v2.search.space import default_space, distribution, field_at, variants
from w2v2.search.study import Study
from w2v2.search.trial import Plan
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive

logger = logging.getLogger("w2v2.jobs.tune_folds")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is known of the encoders of a search and of its clips before anything is trained."""

    infos: dict[EncoderConfig, EncoderInfo]
    features: list[ClipFeatures]
    """Of every clip, in order."""
    gpus: float
    """Of a trial."""

    @property
    def vector_size(self) -> int:
        """Numbers of a clip's pooled vectors, of all encoders together; 0 where frames cross the cut of one."""
        sizes = {info.key: info.vector_size for info in self.infos.values()}
        return sum(sizes.values()) if all(sizes.values()) else 0


@exclusive
def main(config: TuneFoldsConfig) -> dict[str, Any]:
    """The run's metrics, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    continued = run_directory.open_or_continue(config)
    logger.info("run: %s (%s)", config.run, "continued" if continued else "new")
    baseline = baseline_comparison.read_baseline(config.baseline) if config.baseline else None
    choices = config.search.space["encoder.name"].choices if "encoder.name" in config.search.space else ()
    for name in (config.encoder.name, *map(str, choices or ())):
        check_folder(name)
    found = usable_clips.read_clips_and_check_folds(config.run, config.data, config.folds)
    encoders = variants(config.encoder, config.search.space)
    prepared = in_cache(config, encoders, found.clips) or on_workers(config, encoders, found.clips)
    found = usable_clips.in_folds(
        config.run, found, prepared.features, data=config.data, fold_config=config.folds
    )
    if baseline is not None:
        baseline_comparison.check_same(baseline, found.clips)
    run_directory.keep_manifest(config.run, found.clips, found.rejects)
    classes = manifest.classes_of(found.clips)
    study = make_study(config)
    plan = Plan(
        config=config,
        run=config.run,
        classes=tuple(classes),
        keys={encoder: info.key for encoder, info in prepared.infos.items()},
        clips=found.clips.select(["clip_id", "fold", "label", "audio_digest", "num_samples"]),
        gpus=prepared.gpus,
        vector_size=prepared.vector_size,
    )
    if plan.trains_heads_alone:
        from w2v2.search.head_search import search_heads

        search_heads(plan, study)
    else:
        from w2v2.cluster.search import search

        search(plan, study)
    from w2v2.results.tune_folds import write_outcome

    trunk = {
        "clip_forwards": sum(p.num_forwards for p in prepared.features),
        "num_clips": len(found.clips),
        "reused": sum(p.num_forwards == 0 for p in prepared.features if not p.reject),
    }
    return write_outcome(
        config,
        found,
        classes,
        study.study,
        trunk=trunk,
        encoders=encoders_told(prepared.infos, found.clips),
        baseline=baseline,
        seconds=time.monotonic() - started,
    )


def in_cache(config: TuneFoldsConfig, encoders: Sequence[EncoderConfig], clips: pa.Table) -> Prepared | None:
    """What the cache has of encoders and clips, where that is all that a search of heads alone needs; else None."""
    training, num_readers = config.training, config.data.num_readers
    if training.precision != "float32" or any(encoder.train != "head" for encoder in encoders):
        return None
    known = KnownEncoders(config.cache, precision=training.precision, seed=config.seed)
    infos = {encoder: info for encoder in encoders if (info := known.find(encoder))}
    if len(infos) < len(encoders) or not all(info.vector_size for info in infos.values()):
        return None
    from w2v2.features.cache import FeatureCache  # imports torch

    caches = [FeatureCache(config.cache, key) for key in dict.fromkeys(i.key for i in infos.values())]
    requests = AudioIndex(config.data, config.audio, config.cache).requests(clips)
    features = cached_features(requests, caches=caches, num_readers=num_readers)
    if features is None:
        return None
    logger.info("features: all %d clips are in the cache, no worker is needed", len(features))
    return Prepared(infos=infos, features=features, gpus=0.0)


def on_workers(config: TuneFoldsConfig, encoders: Sequence[EncoderConfig], clips: pa.Table) -> Prepared:
    """The same, computed by Ray's workers where it is missing."""
    from w2v2.cluster import connection
    from w2v2.cluster.features import FeaturePreparation

    connection.start()
    connection.check_places(**{"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri})
    gpus = connection.gpus(config.search.gpus_per_trial)
    preparation = FeaturePreparation(config, encoders=encoders, cpus=config.search.cpus_per_trial, gpus=gpus)

    from w2v2.cluster import search  # noqa: F401  takes a second to import, as the workers do meanwhile

    features = preparation.run(clips)
    return Prepared(
        infos=dict(zip(preparation.encoders, preparation.infos, strict=True)), features=features, gpus=gpus
    )


def encoders_told(
    infos: Mapping[EncoderConfig, EncoderInfo], clips: pa.Table
) -> dict[EncoderConfig, dict[str, str]]:
    """Of each encoder that a trial may have: its digest, its cut and, where it says so, which clips trained it."""
    heard = {name: provenance.encoder_overlap(name, clips) for name in {encoder.name for encoder in infos}}
    return {
        encoder: {"digest": info.digest, "cut": info.cut, **heard[encoder.name]}
        for encoder, info in infos.items()
    }


def resolved(config: TuneFoldsConfig) -> TuneFoldsConfig:
    """The config with the default space written out and places made absolute."""
    space = config.search.space or default_space(config.encoder.name)
    return replace(
        config,
        run=storage.expand(config.run),
        data=usable_clips.with_absolute_uri(config.data),
        search=replace(config.search, space=space),
        baseline=storage.expand(config.baseline) if config.baseline else "",
        cache=replace(config.cache, uri=storage.expand(config.cache.uri)),
    )


def make_study(config: TuneFoldsConfig) -> Study:
    """The study in the run directory, new or continued."""
    space = config.search.space
    defaults = {path: field_at(config, path) for path in space}
    return Study(
        config.run,
        search=config.search,
        space={path: distribution(path, dimension, defaults[path]) for path, dimension in space.items()},
        defaults=defaults,
        seed=config.seed,
    )


if __name__ == "__main__":
    sys.exit(command_line.run_job(main, TuneFoldsConfig))
