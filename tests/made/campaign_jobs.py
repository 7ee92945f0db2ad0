"""The jobs of the fault campaign, on small data, and how the numbers of their runs are read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import safetensors.numpy

from w2v2.config.baseline import BaselineConfig, SvmConfig
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.model import EncoderConfig, OptimConfig, TaskConfig, TrainingConfig
from w2v2.config.pretrain import (
    ObjectiveConfig,
    PretrainConfig,
    PretrainDataConfig,
    PretrainTrainingConfig,
)
from w2v2.config.resources import ExtractionResources, InferenceResources
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.jobs import baseline, evaluate, extract_embeddings, finetune, predict, pretrain, tune_folds

ONE = ExtractionResources(num_workers=1, clips_per_part=9)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of small data, how its numbers are read, and settings that belong to another run."""

    main: Callable[[Any], Any]
    config: Any
    """With run and cache below the folder `place`."""
    numbers: Callable[[Path], dict[Any, np.ndarray]]
    other: Callable[[Any], Any]
    """The config with other settings, in the same directory."""
    refuses_other: bool = True
    """Whether a run that has computed something refuses them; else it is another run in the same directory."""
    tolerance: float = 0.0
    """How much numbers may differ after a resume, as an encoder rounds otherwise on other batches."""


def vectors_of(run: Path) -> dict[tuple, np.ndarray]:
    with duckdb.connect(str(run / "embeddings.db"), read_only=True) as connection:
        rows = connection.sql("FROM embeddings").to_arrow_table().to_pylist()
    return {(row["clip_id"], row["layer"], row["start_s"]): np.array(row["embedding"]) for row in rows}


def predictions_of(run: Path) -> dict[str, np.ndarray]:
    """What was predicted of each clip, as exact numbers."""
    table = pq.read_table(run / "predictions.parquet")
    names = [name for name in table.column_names if name.startswith("prob_")]
    return {row["clip_id"]: np.array([row[name] for name in names]) for row in table.to_pylist()}


def rows_of_csv(run: Path) -> dict[str, np.ndarray]:
    header, *lines = (run / "predictions.csv").read_text().splitlines()
    numbers = [index for index, name in enumerate(header.split(",")) if name.startswith("prob_")]
    rows = [line.split(",") for line in lines]
    return {row[0]: np.array([float(row[index]) for index in numbers]) for row in rows}


def weights_of(run: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(run / "model" / "model.safetensors")


def jobs(place: Path, audio: Path, model: Path) -> dict[str, Job]:
    """All jobs by name, each with run and cache below the folder `place`."""
    return training_jobs(place, audio) | longer_jobs(place, audio) | scoring_jobs(place, audio, model)


def training_jobs(place: Path, audio: Path) -> dict[str, Job]:
    run, data = str(place / "run"), DataConfig(uri=str(audio))
    common: dict[str, Any] = {
        "run": run, "data": data, "cache": CacheConfig(uri=str(place / "cache")), "local": True
    }  # fmt: skip
    encoder = EncoderConfig(train="last", num_last_layers=1)
    search = SearchConfig(num_trials=2, max_concurrent_trials=1, pruning="none")
    other_audio = AudioConfig(crop_s=0.4)
    return {
        "extract": Job(
            main=extract_embeddings.main,
            config=ExtractConfig(run=run, data=data, resources=ONE, local=True),
            numbers=vectors_of,
            other=lambda config: replace(config, audio=other_audio),
            refuses_other=False,
            tolerance=2e-5,
        ),
        "finetune": Job(
            main=finetune.main,
            config=FinetuneConfig(encoder=encoder, training=TrainingConfig(num_epochs=3), **common),
            numbers=predictions_of,
            other=lambda config: replace(config, optim=OptimConfig(learning_rate=0.1)),
        ),
        "tune_folds": Job(
            main=tune_folds.main,
            config=TuneFoldsConfig(
                encoder=encoder, search=search, training=TrainingConfig(num_epochs=1), **common
            ),
            numbers=predictions_of,
            other=lambda config: replace(config, audio=other_audio),
        ),
        "tune heads": Job(
            main=tune_folds.main,
            config=TuneFoldsConfig(
                encoder=EncoderConfig(train="head"),
                search=replace(search, num_trials=4, pruning="median"),
                training=TrainingConfig(num_epochs=2),
                **common,
            ),
            numbers=predictions_of,
            other=lambda config: replace(config, audio=other_audio),
        ),
        "pretrain": Job(
            main=pretrain.main,
            config=PretrainConfig(
                **common | {"data": PretrainDataConfig(uri=str(audio))},
                training=PretrainTrainingConfig(num_epochs=2, on_collapse="warn"),
            ),
            numbers=weights_of,
            other=lambda config: replace(config, seed=1),
        ),
        "baseline": Job(
            main=baseline.main,
            config=BaselineConfig(svm=SvmConfig(features=("mfcc",)), **common),
            numbers=predictions_of,
            other=lambda config: replace(config, audio=other_audio),
            tolerance=1e-6,
        ),
    }


def longer_jobs(place: Path, audio: Path) -> dict[str, Job]:
    """Jobs that train several models, or have targets of any length."""
    common: dict[str, Any] = {
        "run": str(place / "run"), "cache": CacheConfig(uri=str(place / "cache")), "local": True
    }  # fmt: skip
    last = EncoderConfig(train="last", num_last_layers=1)
    return {
        "ensemble": Job(
            main=finetune.main,
            config=FinetuneConfig(
                encoder=last,
                training=TrainingConfig(num_epochs=2),
                data=DataConfig(uri=str(audio)),
                ensemble="folds",
                ensemble_size=2,
                **common,
            ),
            numbers=predictions_of,
            other=lambda config: replace(config, ensemble_size=3),
        ),
        "transcripts": Job(
            main=finetune.main,
            config=FinetuneConfig(
                task=TaskConfig(kind="transcript"),
                training=TrainingConfig(num_epochs=2),
                data=DataConfig(uri=str(sentences_of(audio))),
                **common,
            ),
            numbers=weights_of,
            other=lambda config: replace(config, seed=1),
        ),
        "clusters": Job(
            main=pretrain.main,
            config=PretrainConfig(
                data=PretrainDataConfig(uri=str(audio)),
                pretrain=ObjectiveConfig(objective="clusters", num_clusters=8),
                training=PretrainTrainingConfig(num_epochs=2, on_collapse="warn"),
                **common,
            ),
            numbers=weights_of,
            other=lambda config: replace(config, seed=1),
        ),
    }


def sentences_of(audio: Path) -> Path:
    """The CSV of the job `transcripts`, in a folder next to the audio."""
    return audio.with_name(f"{audio.name}-sentences") / "clips.csv"


def scoring_jobs(place: Path, audio: Path, model: Path) -> dict[str, Job]:
    run, data = str(place / "run"), DataConfig(uri=str(audio))
    scoring: dict[str, Any] = {"run": run, "data": data, "local": True, "model": str(model)}
    scoring |= {"resources": InferenceResources(num_workers=1, clips_per_part=9)}
    return {
        "evaluate": Job(
            main=evaluate.main,
            config=EvaluateConfig(**scoring),
            numbers=predictions_of,
            other=lambda config: replace(config, data=replace(data, classes={"happy": "drop"})),
            refuses_other=False,
            tolerance=2e-5,
        ),
        "predict": Job(
            main=predict.main,
            config=PredictConfig(**scoring),
            numbers=rows_of_csv,
            other=lambda config: replace(config, window_s=0.3),
            refuses_other=False,
            tolerance=2e-5,
        ),
    }
