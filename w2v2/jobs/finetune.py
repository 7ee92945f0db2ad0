"""Train one model on several workers, and score it once on speakers that it has never seen.

    w2v2 finetune                                              # the built-in corpus, a minute or two
    w2v2 finetune --config runs/base-last2/best.yaml --run runs/model --resources.num_workers 4
    w2v2 finetune --task.kind multi_label --data.layout clinic --data.uri gs://bucket/clinic \
        --encoder.name facebook/wav2vec2-base-960h --encoder.train last --run gs://bucket/runs/clinic
    w2v2 finetune --config jobs/recipes/transcript.yaml        # transcripts
    ray job submit --working-dir . -- python jobs/finetune.py --data.uri gs://bucket/ravdess ...

Reads   RAVDESS files, a CSV of clips, a clinic folder, DEAM, LibriSpeech or Common Voice, local or gs://.
Writes  <run>/model/ config.yaml manifest.parquet rejects.parquet predictions.parquet curves.parquet
        metrics.json report.html plots/ tables/ tensorboard/ and, to resume from, checkpoints/
The same command continues a run that was stopped, from its newest checkpoint.
"""

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import pyarrow.compute as pc

from w2v2.cluster.features import FeaturePreparation
from w2v2.cluster.joined_descriptors import Descriptors, descriptor_rows, joined_descriptors
from w2v2.cluster.tracking import tracked
from w2v2.cluster.workers import Workers, ray_is_at_hand, start_workers
from w2v2.config import command_line, guide
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.guide import Guide
from w2v2.data import usable_clips
from w2v2.data.manifest import Manifest
from w2v2.features.requests import ClipFeatures, features_in_columns, in_columns
from w2v2.json_types import Json
from w2v2.models import decoder
from w2v2.models.architecture import check_encoder, check_vocabulary, refuse_unusable
from w2v2.models.fold_encoders import refuse_fold_encoders
from w2v2.models.imports import import_models
from w2v2.models.learning_rates import log_learning_rate, with_learning_rate
from w2v2.models.vocabulary import vocabulary_of
from w2v2.results.cards import card_of_finetuning, encoder_of_finetuning
from w2v2.results.job_plans import plan_finetune
from w2v2.results.plan import reading_all
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive
from w2v2.training.finetune_plan import plan_training
from w2v2.training.finetuning_clips import long_enough, read_clips, with_usable_audio

logger = logging.getLogger("w2v2.jobs.finetune")

GUIDE = Guide(
    command="finetune",
    summary="Train one model, and score it once on speakers that it has never seen.",
    flags={
        "data.uri": guide.DATA,
        "data.layout": guide.LAYOUT,
        "task.kind": "classes, multi_label, regression or transcript",
        "encoder.name": guide.ENCODER,
        "encoder.train": guide.TRAIN,
        "optim.learning_rate": "peak learning rate; 0 suits the encoder",
        "training.num_epochs": "epochs",
        "resources.num_workers": guide.WORKERS,
        "resources.gpus_per_worker": guide.GPUS,
        "run": guide.RUN,
    },
    examples=(
        "w2v2 finetune                                      # the built-in corpus, a minute or two",
        "w2v2 finetune --config runs/base/best.yaml --run runs/model   # the best settings of a search",
    ),
)


@exclusive
@tracked
def main(config: FinetuneConfig) -> dict[str, Json]:
    """The metrics of the test split, after everything has been written to the run directory."""
    started = time.monotonic()
    refuse_unusable(config.encoder.name)
    refuse_fold_encoders(config.encoder.name)
    given, config = config, resolved(config)
    log_learning_rate(given, config)
    if config.plan:
        return plan_finetune(config, read_clips(reading_all(config)))
    before = main(without_remapping(config)) if config.before_remapping else None
    continued = run_directory.open_or_continue(config)
    logger.info("run: %s (%s)", config.run, "continued" if continued else "new")
    check_encoder(config.encoder, asks_hub=not ray_is_at_hand())
    if config.text.vocab == "model":
        check_vocabulary(config.encoder.name)
    corpus = read_clips(config)
    workers, preparation, gpus = start(config, num_clips=len(corpus.clips))

    import_models()  # takes seconds; the workers import it at the same time
    from w2v2.cluster.finetune import finetune_on
    from w2v2.results.finetune import write_outcome, write_vocabulary
    from w2v2.training.ensembles import train_ensemble

    corpus, descriptors, num_forwards = read_audio(config, corpus, preparation, workers)
    vocabulary = vocabulary_of(config, corpus) if config.task.kind == "transcript" else None
    run_directory.keep_manifest(config.run, corpus.clips, corpus.rejects)
    about_text = write_vocabulary(config.run, corpus.clips, vocabulary) if vocabulary else None
    encoder = encoder_of_finetuning(config, preparation.infos[0], corpus)
    plan = plan_training(
        config,
        corpus,
        preparation.infos[0].key,
        descriptor_rows(descriptors, corpus.clips),
        vocabulary=vocabulary,
        card=card_of_finetuning(config, corpus, encoder),
    )
    train = functools.partial(finetune_on, workers, gpus=gpus)
    ensemble = train_ensemble(plan, train=train) if config.ensemble != "none" else None
    return write_outcome(
        config,
        corpus,
        plan.names,
        trained=ensemble.averaged if ensemble else train(plan),
        ensemble=ensemble,
        midpoints=plan.midpoints,
        encoder=encoder,
        trunk={"clip_forwards": num_forwards, "num_clips": len(corpus.clips)},
        before=before,
        text=about_text,
        seconds=time.monotonic() - started,
    )


def start(config: FinetuneConfig, *, num_clips: int) -> tuple[Workers, FeaturePreparation, float]:
    """The workers, what computes features on them (the encoder is loaded from now on), and the GPUs of each."""
    workers = start_workers(
        local=config.local, num_clips=num_clips, num_processes=config.resources.num_workers
    )
    workers.check_places(**places(config))
    gpus = workers.gpus(config.resources.gpus_per_worker)
    cpus = config.resources.cpus_per_worker
    preparation = FeaturePreparation(config, encoders=[config.encoder], cpus=cpus, gpus=gpus, workers=workers)
    return workers, preparation, gpus


def read_audio(
    config: FinetuneConfig, corpus: Manifest, preparation: FeaturePreparation, workers: Workers
) -> tuple[Manifest, Descriptors, int]:
    """The usable clips with their splits, the hand-made features that the head joins, and the passes through the encoder."""
    prepared: Sequence[ClipFeatures] = preparation.run(corpus.clips)
    described, descriptors = joined_descriptors(config, corpus.clips, workers)
    refused = {clip.clip_id: clip for clip in described if clip.reject}
    if refused:
        prepared = features_in_columns(refused.get(clip.clip_id, clip) for clip in prepared)
    if config.task.kind == "transcript":
        prepared = long_enough(config, corpus, prepared, preparation.infos[0])
    num_forwards = pc.sum(in_columns(prepared).table["num_forwards"]).as_py() or 0
    return with_usable_audio(config, corpus, prepared), descriptors, num_forwards


def resolved(config: FinetuneConfig) -> FinetuneConfig:
    """The config with places made absolute, the encoder's learning rate, and frames not pooled where transcripts need them."""
    pooling = "none" if config.task.kind == "transcript" else config.encoder.pooling
    return replace(
        with_learning_rate(config),
        run=storage.expand(config.run),
        encoder=replace(config.encoder, pooling=pooling),
        data=usable_clips.with_absolute_uri(config.data),
        cache=replace(config.cache, uri=storage.expand(config.cache.uri)),
        decode=decoder.resolved(config.decode),
    )


def places(config: FinetuneConfig) -> dict[str, str]:
    """The places that every worker reads or writes, by field."""
    corpus = {"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri}
    return corpus | ({"decode.lm": config.decode.lm} if config.decode.lm else {})


def without_remapping(config: FinetuneConfig) -> FinetuneConfig:
    """The same training on the classes as they are in the data."""
    run = storage.join(config.run, "before_remapping")
    return replace(
        config, run=run, track="none", data=replace(config.data, classes={}), before_remapping=False
    )


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, FinetuneConfig, args, guide=GUIDE)
