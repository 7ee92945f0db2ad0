"""The plan of each job: the features, trials, folds, epochs and steps that it would compute; no Ray."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from w2v2.audio import descriptors
from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.baseline import BaselineConfig
from w2v2.config.data import SPLITS, CacheConfig, Descriptor
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig, SavedModelConfig
from w2v2.config.model import EncoderConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data import file_facts, folds, splits, usable_clips
from w2v2.data.manifest import Manifest
from w2v2.features.encoder_info import RecordedEncoders
from w2v2.inference.prediction_records import inputs_of, read_predictions
from w2v2.json_types import Json, JsonObject
from w2v2.models.model_files import HubError, is_on_hub, read_model_file
from w2v2.models.model_info import ModelInfo
from w2v2.results.plan import FrozenFeatures, Work, report_plan
from w2v2.storage import files as storage
from w2v2.wording import counted

logger = logging.getLogger(__name__)

PAGE = ("metrics.json", "report.html", "plots/", "tables/")
CLIPS = ("config.yaml", "manifest.parquet", "rejects.parquet")
_NPY_BYTES = 132
"""Bytes of an entry of the cache besides its numbers."""
_DESCRIPTORS_BYTES = 1_000
"""About what the features of one kind take."""


def plan_search(config: TuneFoldsConfig, corpus: Manifest) -> dict[str, Json]:
    """The plan of `w2v2 tune-folds` over these clips."""
    from w2v2.search.nested import cost_of  # imports Optuna, which no other job needs
    from w2v2.search.space import variants

    corpus = replace(corpus, clips=folds.assign(corpus.clips, config.folds))
    encoders = variants(config.encoder, config.search.space)
    frozen = [
        _of_encoder(encoder, config.cache, precision=config.resources.precision, seed=config.seed)
        for encoder in encoders
    ]
    num_trials, steps = config.search.num_trials, _steps_of_trial(config, corpus)
    num_kept = _num_files(storage.join(config.run, "ledger"))
    curve = ["learning_curve.parquet"] if config.search.learning_curve else []
    return report_plan(
        config,
        corpus,
        Work(
            task=config.task.kind,
            audio=config.audio,
            frozen=frozen,
            cache=config.cache,
            computes=[*_speakers(corpus), _trials(config, steps, num_kept), str(cost_of(config))],
            writes=[
                *CLIPS, "trials.parquet", "folds.parquet", "curves.parquet", "predictions.parquet", *curve,
                "best.yaml", *PAGE, "tensorboard/", "study.db", "ledger/",
            ],
            numbers={
                "num_trials": num_trials, "num_folds": config.folds.num_folds, "num_steps": num_trials * steps,
                "num_folds_done": num_kept,
            },
        ),
    )  # fmt: skip


def _steps_of_trial(config: TuneFoldsConfig, corpus: Manifest) -> int:
    """The optimizer steps of a trial that trains all its folds."""
    sizes = np.bincount(corpus.clips["fold"].to_numpy(), minlength=config.folds.num_folds)
    batches = (math.ceil((len(corpus.clips) - int(size)) / config.optim.batch_size) for size in sizes)
    return sum(batches) * config.training.num_epochs


def _trials(config: TuneFoldsConfig, steps: int, num_kept: int) -> str:
    """Trials, folds, epochs and steps as a sentence; num_kept folds are finished."""
    num_trials, num_folds = config.search.num_trials, config.folds.num_folds
    pruned = "" if config.search.pruning == "none" else f"; {config.search.pruning} stops bad trials earlier"
    return (
        f"{counted(num_trials, 'trials')} x {counted(num_folds, 'folds')} x {config.training.num_epochs} epochs, {steps} steps a "
        f"trial at optim.batch_size {config.optim.batch_size}{pruned}; {num_kept} of {num_trials * num_folds} folds are finished"
    )


def plan_baseline(config: BaselineConfig, corpus: Manifest) -> dict[str, Json]:
    """The plan of `w2v2 baseline` over these clips."""
    corpus = replace(corpus, clips=folds.assign(corpus.clips, config.folds))
    svm = config.svm
    num_fits = config.folds.num_folds * (svm.num_inner_folds * len(svm.c) * len(svm.gamma) + 1)
    return report_plan(
        config,
        corpus,
        Work(
            task="classes",
            audio=config.audio,
            frozen=_of_descriptors(svm.features),
            cache=config.cache,
            computes=[
                *_speakers(corpus),
                f"{num_fits} fits of a support vector machine: {config.folds.num_folds} folds, each with {svm.num_inner_folds} "
                f"inner folds for {len(svm.c)} x {len(svm.gamma)} values of C and gamma",
            ],
            writes=[*CLIPS, "folds.parquet", "predictions.parquet", *PAGE],
            numbers={"num_fits": num_fits},
        ),
    )


def plan_finetune(config: FinetuneConfig, corpus: Manifest) -> dict[str, Json]:
    """The plan of `w2v2 finetune` over these clips."""
    corpus = replace(
        corpus, clips=splits.assign(corpus.clips, config.split, config.folds, need_val=config.needs_val)
    )
    counts = {row["values"]: row["counts"] for row in corpus.clips["split"].value_counts().to_pylist()}
    encoder = _of_encoder(
        config.encoder, config.cache, precision=config.resources.precision, seed=config.seed
    )
    steps = _steps_of_training(config, counts.get("train", 0))
    return report_plan(
        config,
        corpus,
        Work(
            task=config.task.kind,
            audio=config.audio,
            frozen=[encoder, *_of_descriptors(config.head.joined)],
            cache=config.cache,
            computes=[
                *_speakers(corpus),
                "splits: " + ", ".join(f"{counts[name]} {name}" for name in SPLITS if name in counts),
                _epochs(config, steps),
            ],
            writes=["model/", *CLIPS, "predictions.parquet", "curves.parquet", *PAGE, "tensorboard/", "checkpoints/"],
            numbers={"splits": counts, "num_steps": steps},
        ),
    )  # fmt: skip


def _steps_of_training(config: FinetuneConfig, num_train: int) -> int:
    """The optimizer steps of all epochs over so many training clips."""
    clips_per_step = config.optim.batch_size * config.optim.accumulation_steps
    return math.ceil(num_train / clips_per_step) * config.training.num_epochs


def _epochs(config: FinetuneConfig, steps: int) -> str:
    """Epochs, steps and workers as a sentence."""
    at_most = "at most " if config.training.patience_epochs else ""
    plural = "s" if config.resources.num_workers > 1 else ""
    is_kept = _num_files(storage.join(config.run, "checkpoints")) > 0
    kept = "; it resumes from a checkpoint of an earlier attempt" if is_kept else ""
    before = (
        "; before it, the same on the classes as they are, in before_remapping/"
        if config.before_remapping
        else ""
    )
    return (
        f"{config.training.num_epochs} epochs, {at_most}{steps} steps on {config.resources.num_workers} "
        f"worker{plural}{kept}{before}"
    )


def plan_pretrain(config: PretrainConfig, corpus: Manifest) -> dict[str, Json]:
    """The plan of `w2v2 pretrain` over these clips; config has the recipe of its encoder."""
    encoder = _of_encoder(config.encoder.as_encoder(), config.cache, precision="float32", seed=config.seed)
    return report_plan(
        config,
        corpus,
        Work(
            task="none",
            audio=config.audio,
            frozen=[encoder],
            cache=config.cache,
            computes=[
                *_speakers(corpus),
                f"{config.training.num_epochs} epochs over all but {config.training.val_fraction:.0%} of the audio, in batches of "
                f"{config.optim.batch_s:g} s, on {config.resources.num_workers} worker{'s' if config.resources.num_workers > 1 else ''}",
            ],
            writes=["model/", *CLIPS, "curves.parquet", "steps.parquet", "code_usage.parquet", *PAGE, "tensorboard/", "checkpoints/"],
            numbers={"num_epochs": config.training.num_epochs},
        ),
    )  # fmt: skip


def plan_evaluate(
    config: EvaluateConfig, corpus: Manifest, info: ModelInfo, *, predictor: str
) -> dict[str, Json]:
    """The plan of `w2v2 evaluate` over these clips, for a model and a decoder of this name."""
    num_done = _num_predicted(config, corpus, predictor=predictor)
    return report_plan(
        config,
        corpus,
        Work(
            task=info.kind,
            audio=info.audio,
            num_done=num_done,
            computes=[
                *_speakers(corpus),
                f"predictions of {counted(len(corpus.clips) - num_done, 'clips')} by {config.model}",
            ],
            writes=[*CLIPS, "predictions.parquet", *PAGE, "done/"],
        ),
    )


def plan_predict(
    config: PredictConfig, corpus: Manifest, info: ModelInfo, *, predictor: str
) -> dict[str, Json]:
    """The plan of `w2v2 predict` over these clips, for a model and a decoder of this name."""
    corpus = file_facts.add_file_facts(corpus, usable_clips.with_demo_made(config.data, task=info.kind))
    num_done = _num_predicted(
        config, corpus, predictor=predictor, window_s=config.window_s, hop_s=config.hop_s
    )
    windows = f", windows of {config.window_s:g} s" if config.window_s else ""
    return report_plan(
        config,
        corpus,
        Work(
            task="none",
            audio=info.audio,
            num_done=num_done,
            computes=[
                f"predictions of {counted(len(corpus.clips) - num_done, 'clips')} by {config.model}{windows}"
            ],
            table=config.table,
            writes=["config.yaml", "rejects.parquet", *PAGE, "done/"],
        ),
    )


def plan_extraction(
    config: ExtractConfig, corpus: Manifest, numbers: JsonObject, *, extra_columns: Sequence[str]
) -> dict[str, Json]:
    """The plan of `w2v2 extract-embeddings` over these clips; numbers are those of inference.extraction_plan."""
    plan = report_plan(
        config,
        corpus,
        Work(
            task="none",
            audio=config.audio,
            num_done=numbers["in_table"] + numbers["embedded"],
            computes=[
                f"vectors of {counted(numbers['num_clips'], 'clips')} by {config.encoder.name}, {counted(numbers['num_rows'], 'rows')}"
            ],
            table=config.table,
            writes=[*CLIPS, *PAGE, "parts/", "done/", "reject_parts/"],
            extra_columns=extra_columns,
        ),
    )
    return {**plan, **numbers}


def _num_predicted(
    config: SavedModelConfig,
    corpus: Manifest,
    *,
    predictor: str,
    window_s: float = 0.0,
    hop_s: float = 0.0,
) -> int:
    inputs = inputs_of(corpus.clips, model=predictor, window_s=window_s, hop_s=hop_s)
    done = read_predictions(config.run, num_at_once=config.data.num_readers)["inputs"]
    return pc.sum(pc.is_in(inputs, value_set=done.combine_chunks())).as_py() or 0


def _of_encoder(encoder: EncoderConfig, cache: CacheConfig, *, precision: str, seed: int) -> FrozenFeatures:
    _warn_if_missing(encoder.name)
    info = RecordedEncoders(cache, precision=precision, seed=seed).find(encoder)
    number = np.dtype(cache.dtype).itemsize
    is_waveform = encoder.train == "all"
    vector = number * info.vector_size + _NPY_BYTES if info and info.vector_size else 0
    computed = "audio for" if is_waveform else "the frozen part of"
    return FrozenFeatures(
        name=f"{computed} {encoder.name} (encoder.train={encoder.train})",
        key=info.key if info else "",
        bytes_per_clip=_NPY_BYTES if is_waveform else vector,
        bytes_per_s=number * SAMPLE_RATE if is_waveform else 0.0,
    )


def _warn_if_missing(name: str) -> None:
    """Log that the hub has no such model, or cannot be asked: the job will end with this error if its machines have no copy of the model."""
    if name != "tiny" and is_on_hub(name):
        try:
            read_model_file(name, "config.json")
        except HubError as error:
            logger.warning("plan: %s", error)


def _of_descriptors(kinds: Sequence[Descriptor]) -> list[FrozenFeatures]:
    return [
        FrozenFeatures(name=kind, key=descriptors.cache_key(kind), bytes_per_clip=_DESCRIPTORS_BYTES)
        for kind in kinds
    ]


def _speakers(corpus: Manifest) -> list[str]:
    speakers = set(corpus.clips["speaker"].to_pylist()) - {""}
    labels = pc.value_counts(corpus.clips["label"]).to_pylist()
    classes = ", ".join(f"{row['values']} ({row['counts']})" for row in labels if row["values"])
    return [f"{counted(len(speakers), 'speakers')}{f'; classes: {classes}' if classes else ''}"]


def _num_files(folder: str) -> int:
    try:
        return len(storage.list_files(folder))
    except storage.NotFoundError:
        return 0
