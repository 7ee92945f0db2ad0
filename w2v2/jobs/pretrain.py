"""Pre-train an encoder on audio without labels, from random weights or from a checkpoint.

    w2v2 pretrain                                              # the built-in corpus, about a minute of training
    w2v2 pretrain --data.uri gs://bucket/audio --data.layout files --encoder.name facebook/wav2vec2-base \
        --encoder.train no_conv --resources.num_workers 4 --run gs://bucket/runs/pretrain
    w2v2 tune-folds --encoder.name runs/pretrain/model ...
    w2v2 pretrain --per_fold true --run runs/by-fold           # an encoder for each fold, without its speakers
    w2v2 tune-folds --encoder.name runs/by-fold ...

Reads   any folder or CSV of audio, local or gs://; labels are not used.
Writes  <run>/model/ config.yaml manifest.parquet rejects.parquet curves.parquet steps.parquet code_usage.parquet
        metrics.json report.html plots/ tensorboard/ and, to resume from, checkpoints/
        with --per_fold true these in <run>/fold-<number>/, and <run>/report.html about all of them
The same command resumes a run that was stopped, from its newest checkpoint.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.cluster import features
from w2v2.cluster.tracking import tracked
from w2v2.cluster.workers import ray_is_at_hand, start_workers
from w2v2.config import command_line, guide
from w2v2.config.guide import Guide
from w2v2.config.pretrain import PretrainConfig, with_recipe
from w2v2.data import file_facts, folds, manifest, splits, usable_clips
from w2v2.data.corpora.rows import EXCLUDED
from w2v2.errors import UserError
from w2v2.features.requests import ClipFeatures
from w2v2.json_types import Json
from w2v2.models.architecture import check_encoder, refuse_unusable
from w2v2.models.fold_encoders import refuse_fold_encoders
from w2v2.models.imports import import_models
from w2v2.results.job_plans import plan_pretrain
from w2v2.results.plan import reading_all
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive, hold
from w2v2.training import pretraining_clips
from w2v2.training.pretraining_clips import Part
from w2v2.versions import library_versions
from w2v2.wording import counted, listed

logger = logging.getLogger("w2v2.jobs.pretrain")

GUIDE = Guide(
    command="pretrain",
    summary="Pre-train an encoder on audio without labels, from random weights or from a checkpoint.",
    flags={
        "data.uri": guide.DATA,
        "data.exclude_speakers": "speakers of later test sets, whose clips are not used",
        "encoder.name": guide.ENCODER,
        "encoder.train": "all, or no_conv: all but the convolutions",
        "pretrain.objective": "contrastive (wav2vec 2.0) or clusters (HuBERT)",
        "optim.learning_rate": "peak learning rate; 0 suits the encoder",
        "training.num_epochs": "passes over the clips",
        "per_fold": "an encoder for each fold of a search, pre-trained without the fold's speakers",
        "resources.num_workers": guide.WORKERS,
        "resources.gpus_per_worker": guide.GPUS,
        "run": guide.RUN,
    },
    examples=(
        "w2v2 pretrain                                      # the built-in corpus, about a minute of training",
        "w2v2 pretrain --data gs://bucket/audio --encoder facebook/wav2vec2-base --run gs://bucket/runs/pretrain",
    ),
)


@exclusive
@tracked
def main(config: PretrainConfig) -> dict[str, Json]:
    """The run's numbers, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    refuse_unusable(config.encoder.name)
    refuse_fold_encoders(config.encoder.name)
    if config.plan:
        return plan_pretrain(config, read_clips(reading_all(config)))
    continued = run_directory.open_or_continue(config)
    logger.info("run: %s (%s)", config.run, "continued" if continued else "new")
    encoders = [config.encoder.as_encoder()] + ([target] if (target := config.target_encoder()) else [])
    for opened in encoders:
        check_encoder(opened, asks_hub=not ray_is_at_hand())
    corpus = read_clips(config)
    num_processes = config.folds.num_folds if config.per_fold else config.resources.num_workers
    workers = start_workers(local=config.local, num_clips=len(corpus.clips), num_processes=num_processes)
    workers.check_places(**{"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri})
    gpus = workers.gpus(config.resources.gpus_per_worker)
    preparation = features.FeaturePreparation(
        config, encoders=encoders, cpus=config.resources.cpus_per_worker, gpus=gpus, workers=workers
    )

    import_models()  # takes seconds; the workers import it at the same time
    from w2v2.cluster.pretraining import pretrain_each_on, pretrain_on
    from w2v2.results.pretrain import write_fold_outcome, write_outcome
    from w2v2.training.pretraining import PretrainPlan, PretrainResult

    info = preparation.infos[0]
    prepared: Sequence[ClipFeatures] = preparation.run(corpus.clips)
    fold_of = pretraining_clips.speaker_folds(config, corpus, prepared) if config.per_fold else {}
    prepared = pretraining_clips.with_too_short(config, prepared, info)
    corpus = usable_clips.with_usable_audio(
        config.run, corpus, prepared, max_reject_fraction=config.data.max_reject_fraction
    )
    encoder = encoder_entry(config, digest=info.digest)
    keys = {"key": info.key, "target_key": preparation.infos[-1].key if target else ""}

    def plan_of(part: Part) -> PretrainPlan:
        return PretrainPlan(config=part.config, clips=part.corpus.clips, card=card(part, encoder), **keys)

    def write(part: Part, trained: PretrainResult) -> dict[str, Json]:
        seconds = time.monotonic() - started
        return write_outcome(part.config, part.corpus, trained, encoder=encoder, seconds=seconds)

    if not config.per_fold:
        part = pretraining_clips.whole(config, corpus)
        run_directory.keep_manifest(config.run, part.corpus.clips, corpus.rejects)
        return write(part, pretrain_on(workers, plan_of(part), gpus=gpus))
    corpus = pretraining_clips.with_folds(config, corpus, fold_of)
    parts = [pretraining_clips.without_fold(config, corpus, fold) for fold in range(config.folds.num_folds)]
    metrics: dict[int, dict[str, Json]] = {}
    with runs_held(parts):
        pretrain_each_on(
            workers,
            [plan_of(part) for part in parts],
            gpus=gpus,
            on_done=lambda fold, trained: metrics.update({fold: write(parts[fold], trained)}),
        )
    of_folds = [metrics[fold] for fold in range(len(parts))]
    return write_fold_outcome(config, corpus, of_folds, seconds=time.monotonic() - started)


@contextlib.contextmanager
def runs_held(parts: Sequence[Part]) -> Iterator[None]:
    """The run directories of the parts, new or continued, held for the time of the block."""
    with contextlib.ExitStack() as leases:
        for part in parts:
            leases.enter_context(hold(part.config.run))
            run_directory.open_or_continue(part.config)
            run_directory.keep_manifest(part.config.run, part.corpus.clips, part.corpus.rejects)
        yield


def resolved(config: PretrainConfig) -> PretrainConfig:
    """The config with places made absolute, and with the recipe of its encoder."""
    encoder = config.encoder
    if Path(encoder.name).expanduser().is_dir():
        encoder = replace(encoder, name=storage.expand(encoder.name))
    return with_recipe(
        replace(
            config,
            run=storage.expand(config.run),
            encoder=encoder,
            data=usable_clips.with_absolute_uri(config.data),
            cache=replace(config.cache, uri=storage.expand(config.cache.uri)),
        )
    )


def read_clips(config: PretrainConfig) -> manifest.Manifest:
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


def encoder_entry(config: PretrainConfig, *, digest: str) -> dict[str, str]:
    """`encoder` of metrics.json and of the model card: the encoder that training began with."""
    return {
        "name": config.encoder.name,
        "weights": "random" if config.encoder.is_random else "checkpoint",
        "train": config.encoder.train,
        "digest": digest,
    }


def card(part: Part, encoder: dict[str, str]) -> dict[str, Json]:
    """The model card: data, encoder, settings and versions."""
    config, corpus = part.config, part.corpus
    data = {
        "uri": config.data.uri,
        "num_clips": len(corpus.clips),
        "num_speakers": len(corpus.clips["speaker"].unique()),
        "hours": round(pc.sum(corpus.clips["duration_s"]).as_py() / 3600, 3),
    }
    settings = command_line.tree(config)
    return {
        "data": data,
        "encoder": encoder,
        "settings": settings,
        "versions": library_versions("torch", "transformers", "ray"),
    }


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, PretrainConfig, args, guide=GUIDE)
