#!/usr/bin/env python
"""Score a support vector machine on hand-made features over the very folds of jobs/tune_folds.py.

    jobs/baseline.py                                              # the built-in corpus, a minute
    jobs/baseline.py --data.uri gs://bucket/ravdess --svm.features '[mfcc, pitch, energy]' \
        --run gs://bucket/runs/svm
    jobs/tune_folds.py --data.uri gs://bucket/ravdess --baseline gs://bucket/runs/svm ...   # side by side

Reads   RAVDESS files (any nesting) or a CSV of clips, local or gs://.
Writes  <run>/config.yaml manifest.parquet rejects.parquet folds.parquet predictions.parquet metrics.json
        report.html plots/
The features are computed once per clip and kept in cache.uri. C and gamma of each held-out fold are chosen
on the other folds alone, by inner folds that keep speakers apart.
"""

import logging
import sys
import time
from dataclasses import replace
from typing import Any

from w2v2.audio import descriptors
from w2v2.cluster import connection as ray_cluster
from w2v2.config import command_line as cli
from w2v2.config.baseline import BaselineConfig
from w2v2.data import manifest
from w2v2.data import usable_clips as corpus
from w2v2.storage import files as storage
from w2v2.storage import run_directory as rundir

logger = logging.getLogger("w2v2.jobs.baseline")


def main(config: BaselineConfig) -> dict[str, Any]:
    """The run's metrics, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    continued = rundir.claim(config)
    logger.info("run: %s (%s)", config.run, "again" if continued else "new")
    found = corpus.named(config.data, config.folds)
    names = descriptors.names(config.svm.features)
    ray_cluster.start()
    ray_cluster.check_places(
        **{"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri}
    )

    from w2v2.cluster import baseline as ray_baseline
    from w2v2.evaluation.predictions import targets_of
    from w2v2.results.baseline import write_outcome

    prepared, by_clip = ray_baseline.describe_clips(
        found.clips, kinds=config.svm.features, data=config.data, audio=config.audio, cache=config.cache
    )
    found = corpus.in_folds(config.run, found, prepared, data=config.data, dealt=config.folds)
    rundir.keep_manifest(config.run, found.clips, found.rejects)
    classes = manifest.classes_of(found.clips)
    fits = ray_baseline.fit_folds(
        config,
        by_clip,
        found.clips,
        target=targets_of(found.clips, "classes", classes),
        num_classes=len(classes),
    )
    seconds = time.monotonic() - started
    return write_outcome(config, found, classes, fits, names=names, seconds=seconds)


def resolved(config: BaselineConfig) -> BaselineConfig:
    """The config with places made absolute."""
    return replace(
        config,
        run=storage.expand(config.run),
        data=corpus.placed(config.data),
        cache=replace(config.cache, uri=storage.expand(config.cache.uri)),
    )


if __name__ == "__main__":
    sys.exit(cli.run_job(main, BaselineConfig))
