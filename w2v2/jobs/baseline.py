"""Score a support vector machine on hand-made features over the very folds of `w2v2 tune-folds`.

    w2v2 baseline                                              # the built-in corpus, a minute
    w2v2 baseline --data.uri gs://bucket/ravdess --svm.features '[mfcc, pitch, energy]' \
        --run gs://bucket/runs/svm
    w2v2 tune-folds --data.uri gs://bucket/ravdess --baseline gs://bucket/runs/svm ...   # side by side

Reads   RAVDESS files (any nesting) or a CSV of clips, local or gs://.
Writes  <run>/config.yaml manifest.parquet rejects.parquet folds.parquet predictions.parquet metrics.json
        report.html plots/ tables/
The features are computed once per clip and kept in cache.uri. C and gamma of each held-out fold are chosen
on the other folds alone, by inner folds that keep speakers apart.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from w2v2.audio import descriptors
from w2v2.cluster.workers import start_workers
from w2v2.config import command_line, guide
from w2v2.config.baseline import BaselineConfig
from w2v2.config.guide import Guide
from w2v2.data import manifest, usable_clips
from w2v2.json_types import Json
from w2v2.results.job_plans import plan_baseline
from w2v2.results.plan import reading_all
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive

logger = logging.getLogger("w2v2.jobs.baseline")

GUIDE = Guide(
    command="baseline",
    summary="Score a support vector machine on hand-made features over the same folds as tune-folds.",
    flags={
        "data.uri": guide.DATA,
        "data.label_column": "of a CSV: the column with the class",
        "data.speaker_column": "of a CSV: the column with the speaker",
        "folds.kind": "published (RAVDESS's), grouped (any corpus), column, consecutive",
        "folds.num_folds": "number of folds",
        "svm.features": "of mfcc, chroma, spectral, pitch, energy, egemaps",
        "svm.c": "grid of the cost of a clip on the wrong side",
        "svm.gamma": "grid of the kernel's width",
        "cache.uri": guide.CACHE,
        "run": guide.RUN,
    },
    examples=(
        "w2v2 baseline                                      # the built-in corpus, a minute",
        "w2v2 baseline --data ~/ravdess --svm.features '[mfcc, pitch, energy]' --run runs/svm",
    ),
)


@exclusive
def main(config: BaselineConfig) -> dict[str, Json]:
    """The run's metrics, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    if config.plan:
        reading = reading_all(config)
        return plan_baseline(config, usable_clips.read_clips_and_check_folds("", reading.data, config.folds))
    continued = run_directory.open_or_continue(config)
    logger.info("run: %s (%s)", config.run, "again" if continued else "new")
    corpus = usable_clips.read_clips_and_check_folds(config.run, config.data, config.folds)
    names = descriptors.names(config.svm.features)
    workers = start_workers(local=config.local)
    workers.check_places(**{"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri})

    from w2v2.cluster import baseline
    from w2v2.data.targets import target_array
    from w2v2.results.baseline import write_outcome

    prepared, by_clip = baseline.describe_clips(
        corpus.clips,
        kinds=config.svm.features,
        data=config.data,
        audio=config.audio,
        cache=config.cache,
        workers=workers,
    )
    corpus = usable_clips.in_folds(config.run, corpus, prepared, data=config.data, fold_config=config.folds)
    run_directory.keep_manifest(config.run, corpus.clips, corpus.rejects)
    classes = manifest.classes_of(corpus.clips)
    fits = baseline.fit_folds(
        config,
        by_clip,
        corpus.clips,
        target=target_array(corpus.clips, "classes", classes),
        num_classes=len(classes),
        workers=workers,
    )
    seconds = time.monotonic() - started
    return write_outcome(config, corpus, classes, fits, names=names, seconds=seconds)


def resolved(config: BaselineConfig) -> BaselineConfig:
    """The config with places made absolute."""
    return replace(
        config,
        run=storage.expand(config.run),
        data=usable_clips.with_absolute_uri(config.data),
        cache=replace(config.cache, uri=storage.expand(config.cache.uri)),
    )


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, BaselineConfig, args, guide=GUIDE)
