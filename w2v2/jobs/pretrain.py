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

from w2v2.cluster.features import FeaturePreparation
from w2v2.cluster.tracking import tracked
from w2v2.cluster.workers import Workers, ray_is_at_hand, start_workers
from w2v2.config import command_line, guide
from w2v2.config.guide import Guide
from w2v2.config.model import EncoderConfig
from w2v2.config.pretrain import PretrainConfig, with_recipe
from w2v2.data import usable_clips
from w2v2.data.manifest import Manifest
from w2v2.features.requests import ClipFeatures
from w2v2.json_types import Json
from w2v2.models.architecture import check_encoder, refuse_unusable
from w2v2.models.fold_encoders import refuse_fold_encoders
from w2v2.models.imports import import_models
from w2v2.results.cards import card_of_pretraining, encoder_of_pretraining
from w2v2.results.job_plans import plan_pretrain
from w2v2.results.plan import reading_all
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive, hold
from w2v2.training import pretraining_clips
from w2v2.training.pretraining_clips import Part, read_clips

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
    for opened in encoders_of(config):
        check_encoder(opened, asks_hub=not ray_is_at_hand())
    corpus = read_clips(config)
    workers, preparation, gpus = start(config, num_clips=len(corpus.clips))

    import_models()  # takes seconds; the workers import it at the same time
    from w2v2.cluster.pretraining import pretrain_each_on, pretrain_on
    from w2v2.results.pretrain import write_fold_outcome, write_outcome
    from w2v2.training.pretraining import PretrainPlan, PretrainResult

    corpus, fold_of = read_audio(config, corpus, preparation)
    info, target = preparation.infos[0], preparation.infos[-1]
    encoder = encoder_of_pretraining(config, digest=info.digest)
    keys = {"key": info.key, "target_key": target.key if config.target_encoder() else ""}

    def plan_of(part: Part) -> PretrainPlan:
        card = card_of_pretraining(part.config, part.corpus, encoder)
        return PretrainPlan(config=part.config, clips=part.corpus.clips, card=card, **keys)

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


def encoders_of(config: PretrainConfig) -> list[EncoderConfig]:
    """The encoder that is trained, and the one whose features are clustered, if it is another one."""
    target = config.target_encoder()
    return [config.encoder.as_encoder()] + ([target] if target else [])


def start(config: PretrainConfig, *, num_clips: int) -> tuple[Workers, FeaturePreparation, float]:
    """The workers, what computes features on them (the encoders are loaded from now on), and the GPUs of each."""
    num_processes = config.folds.num_folds if config.per_fold else config.resources.num_workers
    workers = start_workers(local=config.local, num_clips=num_clips, num_processes=num_processes)
    workers.check_places(**{"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri})
    gpus = workers.gpus(config.resources.gpus_per_worker)
    cpus = config.resources.cpus_per_worker
    preparation = FeaturePreparation(
        config, encoders=encoders_of(config), cpus=cpus, gpus=gpus, workers=workers
    )
    return workers, preparation, gpus


def read_audio(
    config: PretrainConfig, corpus: Manifest, preparation: FeaturePreparation
) -> tuple[Manifest, dict[str, int]]:
    """The clips that can be pre-trained on, and the fold of each speaker where every fold gets an encoder."""
    prepared: Sequence[ClipFeatures] = preparation.run(corpus.clips)
    fold_of = pretraining_clips.speaker_folds(config, corpus, prepared) if config.per_fold else {}
    prepared = pretraining_clips.with_too_short(config, prepared, preparation.infos[0])
    fraction = config.data.max_reject_fraction
    return usable_clips.with_usable_audio(config.run, corpus, prepared, max_reject_fraction=fraction), fold_of


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


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, PretrainConfig, args, guide=GUIDE)
