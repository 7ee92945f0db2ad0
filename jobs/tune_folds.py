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
from dataclasses import replace
from typing import Any

import pyarrow as pa

from w2v2.cluster import connection, features
from w2v2.config import command_line
from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data import manifest, usable_clips
from w2v2.evaluation import baseline_comparison
from w2v2.models import provenance
from w2v2.search.space import default_space, distribution, field_at, variants
from w2v2.search.study import Study
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive

logger = logging.getLogger("w2v2.jobs.tune_folds")


@exclusive
def main(config: TuneFoldsConfig) -> dict[str, Any]:
    """The run's metrics, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    continued = run_directory.open_or_continue(config)
    logger.info("run: %s (%s)", config.run, "continued" if continued else "new")
    baseline = baseline_comparison.read_baseline(config.baseline) if config.baseline else None
    found = usable_clips.read_clips_and_check_folds(config.data, config.folds)
    connection.start()
    connection.check_places(**{"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri})
    preparation = features.FeaturePreparation(
        config,
        encoders=variants(config.encoder, config.search.space),
        cpus=config.search.cpus_per_trial,
        gpus=connection.gpus(config.search.gpus_per_trial),
    )

    from w2v2.cluster import search  # takes a second to import, as the workers do meanwhile
    from w2v2.results.tune_folds import write_outcome

    prepared = preparation.run(found.clips)
    found = usable_clips.in_folds(config.run, found, prepared, data=config.data, dealt=config.folds)
    if baseline is not None:
        baseline_comparison.check_same(baseline, found.clips)
    encoders = encoders_told(preparation, found.clips)
    run_directory.keep_manifest(config.run, found.clips, found.rejects)
    classes = manifest.classes_of(found.clips)
    study = make_study(config)
    plan = search.Plan(
        config=config,
        run=config.run,
        classes=tuple(classes),
        keys={e: info.key for e, info in zip(preparation.encoders, preparation.infos, strict=True)},
        clips=found.clips.select(["clip_id", "fold", "label", "audio_digest", "num_samples"]),
        gpus=connection.gpus(config.search.gpus_per_trial),
    )
    search.search(plan, study)
    trunk = {
        "clip_forwards": sum(p.num_forwards for p in prepared),
        "num_clips": len(found.clips),
        "reused": sum(p.num_forwards == 0 for p in prepared if not p.reject),
    }
    return write_outcome(
        config,
        found,
        classes,
        study.study,
        trunk=trunk,
        encoders=encoders,
        baseline=baseline,
        seconds=time.monotonic() - started,
    )


def encoders_told(preparation: Any, clips: pa.Table) -> dict[EncoderConfig, dict[str, str]]:
    """Of each encoder that a trial may have: its digest, its cut and, where it says so, which clips trained it."""
    names = dict.fromkeys(encoder.name for encoder in preparation.encoders)
    heard = {name: provenance.encoder_heard(name, clips) for name in names}
    return {
        encoder: {"digest": info.digest, "cut": info.cut, **heard[encoder.name]}
        for encoder, info in zip(preparation.encoders, preparation.infos, strict=True)
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
