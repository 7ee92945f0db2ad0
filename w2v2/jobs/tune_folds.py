"""Search AdamW's hyperparameters; score every trial by cross-validation over folds of unseen speakers.

    w2v2 tune-folds                                            # the built-in corpus, a few minutes
    w2v2 tune-folds --data.uri gs://bucket/ravdess --encoder.name facebook/wav2vec2-base \
        --encoder.train last --search.num_trials 30 --run gs://bucket/runs/base-last2
    ray job submit --working-dir . -- python jobs/tune_folds.py --data.uri gs://bucket/ravdess ...

Reads   RAVDESS files (any nesting) or a CSV of clips, local or gs://.
Writes  <run>/config.yaml manifest.parquet rejects.parquet trials.parquet folds.parquet curves.parquet
        predictions.parquet final_predictions.parquet learning_curve.parquet metrics.json best.yaml report.html plots/ tables/ tensorboard/ study.db
        ledger/ nested/
The same command continues a run that was stopped: finished folds are not trained again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from w2v2.cluster.tracking import tracked
from w2v2.cluster.workers import ray_is_at_hand
from w2v2.config import command_line, guide
from w2v2.config.guide import Guide
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data import folds, usable_clips
from w2v2.data.manifest import Manifest
from w2v2.evaluation import baseline_comparison
from w2v2.json_types import Json
from w2v2.models import fold_encoders
from w2v2.models.architecture import check_encoder
from w2v2.models.learning_rates import RATE_SETTINGS, with_learning_rate
from w2v2.results.job_plans import plan_search
from w2v2.results.plan import reading_all
from w2v2.search.after_search import curve_of, final_of
from w2v2.search.final_trainings import Train
from w2v2.search.learning_curve import curve_sizes
from w2v2.search.nested import cost_of, refuse_encoders_by_fold
from w2v2.search.prepared_search import (
    PreparedSearch,
    read_prepared,
    refuse_unknown_characters,
    refuse_unusable_encoders,
)
from w2v2.search.space import default_space, log_learning_rates, variants
from w2v2.search.study import Study, open_study
from w2v2.search.trial import SearchPlan, plan_trials
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive

logger = logging.getLogger("w2v2.jobs.tune_folds")

GUIDE = Guide(
    command="tune-folds",
    summary="Search AdamW's hyperparameters; every trial is scored by cross-validation over folds of unseen speakers.",
    flags={
        "data.uri": guide.DATA,
        "data.label_column": "of a CSV: the column with the class",
        "data.speaker_column": "of a CSV: the column with the speaker",
        "folds.kind": "published (RAVDESS's), grouped (any corpus), column, consecutive",
        "encoder.name": guide.ENCODER,
        "encoder.train": guide.TRAIN,
        "search.num_trials": "trials in all",
        "search.space": "searched fields, such as {optim.learning_rate: {low: 1e-5, high: 1e-3, log: true}}",
        "resources.gpus_per_worker": guide.GPUS,
        "run": guide.RUN,
    },
    examples=(
        "w2v2 tune-folds                                    # the built-in corpus, no download, a few minutes",
        "w2v2 tune-folds --data ~/ravdess --encoder facebook/wav2vec2-base --encoder.train last --run runs/base",
    ),
)


@exclusive
@tracked
def main(config: TuneFoldsConfig) -> dict[str, Json]:
    """The run's metrics, after everything has been written to the run directory."""
    started = time.monotonic()
    refuse_unusable_encoders(config)
    given, config = config, resolved(config)
    log_learning_rates(given, config)
    if config.plan:
        return plan_search(config, read_clips(reading_all(config)))
    continued = run_directory.open_or_continue(config)
    logger.info("run: %s (%s)", config.run, "continued" if continued else "new")
    baseline = baseline_comparison.read_baseline(config.baseline) if config.baseline else None
    manifest, prepared = prepare(config)
    trunk, prepared = prepared.trunk_counts, prepared.without_clips()
    if baseline is not None:
        baseline_comparison.check_same(baseline, manifest.clips)
    if config.search.learning_curve:
        curve_sizes(manifest.clips)  # too few speakers for one are reported before anything is trained
    run_directory.keep_manifest(config.run, manifest.clips, manifest.rejects)
    run_directory.keep_encoders(config.run, {e.name: info.digest for e, info in prepared.infos.items()})

    study, plan = open_study(config), plan_trials(config, prepared, manifest.clips)
    search, train = way_to_train(plan)
    logger.info("cost: %s", cost_of(config))
    search(plan, study)
    final = final_of(plan, study, search=search, train=train)
    curve = curve_of(plan, study, manifest, final, train=train)

    from w2v2.results.tune_folds import write_outcome

    return write_outcome(
        config,
        manifest,
        plan.classes,
        study.study,
        trunk=trunk,
        encoders=prepared.encoder_entries(manifest.clips),
        baseline=baseline,
        final=final,
        curve=curve,
        seconds=time.monotonic() - started,
    )


def prepare(config: TuneFoldsConfig) -> tuple[Manifest, PreparedSearch]:
    """The clips in their folds, and every encoder's features of them.

    Raises UserError where clips, encoders or folds do not fit together, before features are computed where names show it.
    """
    is_transcript = config.task.kind == "transcript"
    encoders = variants(config.encoder, config.search.space)
    of_fold = fold_encoders.by_fold(encoders, num_folds=config.folds.num_folds)
    refuse_encoders_by_fold(config, of_fold)
    needed = fold_encoders.distinct(encoders, of_fold)
    for encoder in needed:
        check_encoder(encoder, asks_hub=not ray_is_at_hand())
    manifest = read_clips(config)
    if of_fold:
        fold_encoders.refuse_seen(of_fold, folds.assign(manifest.clips, config.folds))
    if is_transcript and config.text.vocab == "model":
        refuse_unknown_characters(config, [encoder.name for encoder in encoders], manifest.clips)
    prepared = read_prepared(config, needed, manifest.clips)
    if prepared is None:
        from w2v2.cluster.features import (
            prepare_search,  # starts workers, which are not needed where the cache has everything
        )

        prepared = prepare_search(config, needed, manifest.clips)
    prepared = replace(prepared, encoders_by_fold=of_fold)
    if is_transcript:
        prepared = prepared.long_enough(manifest.clips)
    manifest = usable_clips.in_folds(
        config.run, manifest, prepared.features, data=config.data, fold_config=config.folds
    )
    fold_encoders.refuse_seen(of_fold, manifest.clips)
    return manifest, prepared


def read_clips(config: TuneFoldsConfig) -> Manifest:
    """The clips of the data, with references for transcripts; raises UserError where they make no folds."""
    text = config.text if config.task.kind == "transcript" else None
    return usable_clips.read_clips_and_check_folds(config.run, config.data, config.folds, text=text)


def way_to_train(plan: SearchPlan) -> tuple[Callable[[SearchPlan, Study], None], Train]:
    """How trials are searched and single trainings run: heads side by side, one by one in this process, or on workers."""
    if plan.trains_heads_alone:
        from w2v2.search.head_search import search_heads, train_heads

        return search_heads, train_heads
    if plan.config.local is True:
        from w2v2.search.one_by_one import search_one_by_one, train_one_by_one

        return search_one_by_one, train_one_by_one
    from w2v2.cluster.search import search, train_folds

    return search, train_folds


def resolved(config: TuneFoldsConfig) -> TuneFoldsConfig:
    """The config with the default space and learning rate written out, what transcripts need, and absolute places.

    The learning rate is left open where it is not searched and trials differ in the settings that it depends on.
    """
    space = config.search.space or default_space(config)
    if "optim.learning_rate" in space or not RATE_SETTINGS.intersection(space):
        config = with_learning_rate(config)
    if config.task.kind == "transcript":
        metric = "cer" if config.search.metric == "uar" else config.search.metric
        config = replace(
            config,
            encoder=replace(config.encoder, pooling="none"),
            search=replace(config.search, metric=metric),
        )
    return replace(
        config,
        run=storage.expand(config.run),
        data=usable_clips.with_absolute_uri(config.data),
        search=replace(config.search, space=space),
        baseline=storage.expand(config.baseline) if config.baseline else "",
        cache=replace(config.cache, uri=storage.expand(config.cache.uri)),
    )


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, TuneFoldsConfig, args, guide=GUIDE)
