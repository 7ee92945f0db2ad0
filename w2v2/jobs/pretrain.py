"""Pre-train an encoder on audio without labels, from random weights or from a checkpoint.

    jobs/pretrain.py                                              # the built-in corpus, about a minute of training
    jobs/pretrain.py --data.uri gs://bucket/audio --data.layout files --encoder.name facebook/wav2vec2-base \
        --encoder.train no_conv --resources.num_workers 4 --run gs://bucket/runs/pretrain
    jobs/tune_folds.py --encoder.name runs/pretrain/model ...

Reads   any folder or CSV of audio, local or gs://; labels are not used.
Writes  <run>/model/ config.yaml manifest.parquet rejects.parquet curves.parquet steps.parquet code_usage.parquet
        metrics.json report.html plots/ tensorboard/ and, to resume from, checkpoints/
The same command resumes a run that was stopped, from its newest checkpoint.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.cluster import features
from w2v2.cluster.workers import start_workers
from w2v2.config import command_line, guide
from w2v2.config.guide import Guide
from w2v2.config.pretrain import PretrainConfig, with_recipe
from w2v2.data import file_facts, manifest, splits, usable_clips
from w2v2.data.corpora.rows import EXCLUDED
from w2v2.errors import Reject, UserError
from w2v2.results.job_plans import plan_pretrain
from w2v2.results.plan import reading_all
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive
from w2v2.versions import library_versions
from w2v2.wording import listed

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
def main(config: PretrainConfig) -> dict[str, Any]:
    """The run's numbers, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    if config.plan:
        return plan_pretrain(config, read_clips(reading_all(config)))
    continued = run_directory.open_or_continue(config)
    logger.info("run: %s (%s)", config.run, "continued" if continued else "new")
    found = read_clips(config)
    workers = start_workers(local=config.local)
    workers.check_places(**{"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri})
    gpus = workers.gpus(config.resources.gpus_per_worker)
    encoders = [config.encoder.as_encoder()] + ([target] if (target := config.target_encoder()) else [])
    preparation = features.FeaturePreparation(
        config, encoders=encoders, cpus=config.resources.cpus_per_worker, gpus=gpus, workers=workers
    )

    # Importing torch takes seconds; the workers import it at the same time.
    from w2v2.cluster.pretraining import pretrain_on
    from w2v2.results.pretrain import write_outcome
    from w2v2.training.pretraining import PretrainPlan

    info = preparation.infos[0]
    prepared = with_too_short(config, preparation.run(found.clips), info)
    found = usable(config, found, prepared)
    run_directory.keep_manifest(config.run, found.clips, found.rejects)
    encoder = {
        "name": config.encoder.name,
        "weights": "random" if config.encoder.is_random else "checkpoint",
        "train": config.encoder.train,
        "digest": info.digest,
    }
    plan = PretrainPlan(
        config=config,
        key=info.key,
        target_key=preparation.infos[-1].key if target else "",
        clips=found.clips,
        card=card(config, found, encoder),
    )
    trained = pretrain_on(workers, plan, gpus=gpus)
    return write_outcome(config, found, trained, encoder=encoder, seconds=time.monotonic() - started)


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
    """The clips by name, without those of data.exclude_speakers."""
    data = usable_clips.with_demo_made(config.data)
    found = file_facts.without_missing_files(manifest.read(data, task="none"), data)
    manifest.check_rejects(found, max_reject_fraction=data.max_reject_fraction, run=config.run)
    unknown = sorted(set(config.data.exclude_speakers) - set(found.clips["speaker"].to_pylist()))
    if unknown:
        raise UserError(
            f"data.exclude_speakers names {listed(unknown)}, of whom there is no clip in {config.data.uri}: check the "
            "names in its manifest, or remove them"
        )
    excluded = pc.is_in(found.clips["speaker"], pa.array(config.data.exclude_speakers, pa.string()))
    clips = found.clips.filter(pc.invert(excluded))
    logger.info(
        "data: %d clips, %d left out of %d speakers to exclude, %d rejected by name",
        len(clips),
        len(found.clips) - len(clips),
        len(config.data.exclude_speakers),
        len(found.rejects),
    )
    if len(clips) < 2:
        raise UserError(f"{len(clips)} clips are left to pre-train on, wanted at least 2: look at data.uri")
    num_excluded = len(found.clips) - len(clips)
    passed_over = dict(found.passed_over) | ({EXCLUDED: num_excluded} if num_excluded else {})
    return replace(found, clips=clips, passed_over=passed_over)


def with_too_short(config: PretrainConfig, prepared: list[Any], info: Any) -> list[Any]:
    """The same clips, with a reject for those that are too short to mask a span of."""
    needed = config.mask.min_frames
    for kernel, stride in zip(info.kernels[::-1], info.strides[::-1], strict=True):
        needed = (needed - 1) * stride + kernel
    detail = f"s < {needed / SAMPLE_RATE:.3f} s, {config.mask.min_frames} frames: a masked span and a frame to predict it from"
    return [
        replace(
            clip, reject=Reject(kind="too short", detail=f"{clip.num_samples / SAMPLE_RATE:.3f} {detail}")
        )
        if not clip.reject and clip.num_samples < needed
        else clip
        for clip in prepared
    ]


def usable(config: PretrainConfig, found: manifest.Manifest, prepared: list[Any]) -> manifest.Manifest:
    """The clips whose audio could be used, with their splits train and val."""
    found = usable_clips.with_usable_audio(
        config.run, found, prepared, max_reject_fraction=config.data.max_reject_fraction
    )
    clips = splits.hold_back(found.clips, fraction=config.training.val_fraction, seed=config.seed)
    train = clips.filter(pc.equal(clips["split"], "train"))
    if len(train) < 2:
        raise UserError(f"{len(train)} clips are left to pre-train on, wanted at least 2: look at data.uri")
    logger.info(
        "splits: %d clips of %d speakers train (%.2f hours), %d of %d others validate",
        len(train),
        len(train["speaker"].unique()),
        pc.sum(train["duration_s"]).as_py() / 3600,
        len(clips) - len(train),
        len(clips["speaker"].unique()) - len(train["speaker"].unique()),
    )
    return replace(found, clips=clips)


def card(config: PretrainConfig, found: manifest.Manifest, encoder: dict[str, str]) -> dict[str, Any]:
    """What the model card says of data, encoder, settings and versions."""
    data = {
        "uri": config.data.uri,
        "num_clips": len(found.clips),
        "num_speakers": len(found.clips["speaker"].unique()),
        "hours": round(pc.sum(found.clips["duration_s"]).as_py() / 3600, 3),
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
