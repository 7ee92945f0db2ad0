"""Case vectors: a search of heads over cached vectors, from command to page, by us and scikit-learn; some folds by Trainer."""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig, SearchSizes
from w2v2.benchmarks.processes import CompletedCommand, job_file, run_command, run_job
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, Rounds, alternate
from w2v2.benchmarks.search_case import TRAINER, SearchResult, job_of, proposals, read_search
from w2v2.benchmarks.transformers_trainer import check_trainer
from w2v2.config.data import CacheConfig
from w2v2.config.model import HeadConfig, TrainingConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data.manifest import classes_of
from w2v2.data.targets import class_numbers
from w2v2.features.cache import FeatureCache
from w2v2.features.encoder_info import RecordedEncoders
from w2v2.features.packed_vectors import in_memory, open_features
from w2v2.storage import run_directory

DIM = 768
CLIP_S = 0.6
MAX_S = 20.0
"""Seconds from the command to the page for the default sizes, on two cores without other work."""
MLP = "scikit-learn, MLPClassifier"
LOGISTIC = "scikit-learn, LogisticRegression"


@dataclass(frozen=True, kw_only=True)
class OurSearch:
    """A search by our job, with the messages of its command."""

    searched: SearchResult
    ended: CompletedCommand


def vectors(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Seconds of whole commands over the same vectors, folds and number of trials; for Trainer, seconds of each fold's training alone."""
    check_trainer()
    job = cached_job(config, scratch)
    file = write_vectors(job, scratch)

    def ours(number: int) -> OurSearch:
        run = str(scratch / f"run-{number}")
        ended = run_job("tune_folds", replace(job, run=run))
        return OurSearch(searched=read_search(run), ended=ended)

    sides: dict[str, Callable[[int], Any]] = {
        OURS: ours,
        MLP: lambda _: scikit_learn(config, file, "mlp"),
        LOGISTIC: lambda _: scikit_learn(config, file, "logistic"),
    }
    rounds = alternate(sides, rounds=config.rounds_of("vectors"), what="vectors")
    with_trainer = _peer(
        "heads_with_trainer", config, file, "--num_trials", config.vectors.num_trainer_trials
    )
    return CaseResult(
        case="vectors",
        comparisons=[whole_commands(config, rounds), by_fold(config, rounds, with_trainer)],
        agreements=agreements(config, rounds, with_trainer["scores"]),
        notes=[_phases(rounds.results[OURS][-1].ended)],
    )


def cached_job(config: BenchmarkConfig, scratch: Path) -> TuneFoldsConfig:
    """A search whose clips have their vectors in the cache, after a run with one trial."""
    sizes = config.vectors
    lengths_s = np.full(sizes.num_clips, CLIP_S)
    corpus = synthetic_clips.write_corpus(scratch / "corpus", lengths_s, seed=config.seed)
    as_search = SearchSizes(
        num_clips=sizes.num_clips,
        num_trials=sizes.num_trials,
        num_folds=sizes.num_folds,
        num_epochs=sizes.num_epochs,
        batch_size=sizes.batch_size,
    )
    encoder = wide_encoder(scratch / "encoder", seed=config.seed)
    job = job_of(replace(config, search=as_search), corpus, encoder, train="head")
    job = replace(
        job,
        head=HeadConfig(),
        search=replace(job.search, max_concurrent_trials=0),
        cache=CacheConfig(uri=str(scratch / "cache")),
    )
    filling = replace(job, training=TrainingConfig(num_epochs=1), search=replace(job.search, num_trials=1))
    run_job("tune_folds", replace(filling, run=str(scratch / "filling"), local=True))
    return job


def wide_encoder(folder: Path, *, seed: int) -> str:
    """A folder with an encoder of random weights, whose vectors are as wide as those of base and take little to compute."""
    torch.manual_seed(seed)
    config = Wav2Vec2Config(
        hidden_size=DIM, num_hidden_layers=1, intermediate_size=DIM, conv_dim=(32,) * 7, num_conv_pos_embeddings=16
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return str(folder)


def write_vectors(job: TuneFoldsConfig, scratch: Path) -> Path:
    """A file with the vectors of the cache, the classes and folds of their clips, and the hyperparameters of all trials."""
    clips = run_directory.read_table(str(scratch / "filling"), "manifest")
    info = RecordedEncoders(job.cache, precision=job.resources.precision, seed=job.seed).find(job.encoder)
    assert info is not None  # else the run has not filled the cache
    cached = open_features(
        FeatureCache(job.cache, info.key),
        clips["audio_digest"],
        num_at_once=job.data.num_readers,
    )
    trials = proposals(job, scratch / "proposals")
    np.savez(
        scratch / "vectors.npz",
        vectors=in_memory(cached),
        targets=class_numbers(clips["label"], classes_of(clips)),
        folds=np.asarray(clips["fold"]),
        learning_rates=[optim.learning_rate for optim in trials],
        weight_decays=[optim.weight_decay for optim in trials],
    )
    return scratch / "vectors.npz"


def scikit_learn(config: BenchmarkConfig, file: Path, kind: Literal["mlp", "logistic"]) -> list[float]:
    """The mean balanced accuracy over the folds of each trial."""
    return _peer("heads_with_sklearn", config, file, "--kind", kind)["scores"]


def _peer(name: str, config: BenchmarkConfig, file: Path, *flags: object) -> dict[str, list[float]]:
    """The output of a program of jobs/peers, after its end."""
    sizes, made = config.vectors, file.with_name(f"{name}.json")
    shared = (
        "--num_epochs",
        sizes.num_epochs,
        "--batch_size",
        sizes.batch_size,
        "--num_cpus",
        config.threads,
    )
    run_command(
        [sys.executable, str(job_file(f"peers/{name}")), str(file), str(made), *map(str, shared + flags)]
    )
    content: dict[str, list[float]] = json.loads(made.read_text())
    return content


def whole_commands(config: BenchmarkConfig, rounds: Rounds) -> Comparison:
    """Seconds of all folds of all trials, processes and imports included."""
    sizes = config.vectors
    return Comparison(
        part="from the command to its end",
        seconds=rounds.seconds,
        cpu_seconds=rounds.cpu_seconds,
        amount=sizes.num_trials * sizes.num_folds,
        unit="folds",
    )


def by_fold(config: BenchmarkConfig, rounds: Rounds, of_trainer: dict[str, list[float]]) -> Comparison:
    """Seconds for each fold: of our whole command, and of Trainer's training and scoring without its imports."""
    num_folds = config.vectors.num_trials * config.vectors.num_folds

    def compared(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, list[float]]:
        mean = statistics.fmean(theirs)
        return {OURS: [seconds / num_folds for seconds in ours], TRAINER: [mean for _ in ours]}

    return Comparison(
        part=f"one fold: our whole command by {num_folds}, the mean of {len(of_trainer['seconds'])} trainings by Trainer",
        seconds=compared(rounds.seconds[OURS], of_trainer["seconds"]),
        cpu_seconds=compared(rounds.cpu_seconds[OURS], of_trainer["cpu_seconds"]),
    )


def agreements(config: BenchmarkConfig, rounds: Rounds, of_trainer: Sequence[float]) -> list[Agreement]:
    """Whether the command is as fast as it should be, and the scores of all sides; Trainer's scores are of the first trials only."""
    ours: OurSearch = rounds.results[OURS][-1]
    scores, num_trials = ours.searched.scores, config.vectors.num_trainer_trials
    best, first = "mean UAR of the best trial", f"mean UAR of the first {num_trials} trials"
    values = [
        (OURS, best, max(scores.values())),
        (MLP, best, max(rounds.results[MLP][-1])),
        (LOGISTIC, best, max(rounds.results[LOGISTIC][-1])),
        (OURS, first, statistics.fmean(scores[trial] for trial in range(num_trials))),
        (TRAINER, first, statistics.fmean(of_trainer)),
    ]
    seconds = Agreement(
        part="from the command to the page", side=OURS, what="seconds", value=ours.ended.seconds, at_most=MAX_S
    )  # fmt: skip
    return [
        seconds,
        *(Agreement(part="scores", side=side, what=what, value=value) for side, what, value in values),
    ]


def _phases(ended: CompletedCommand) -> str:
    """The times at which our command began to search, and to draw its page."""
    begins = {
        name: next(at_s for at_s, text in ended.lines if begin in text)
        for name, begin in (("search", " search: "), ("page", "page: drawing"))
    }
    return (
        f"{OURS}: the search begins after {begins['search']:.1f} s, the page after {begins['page']:.1f} s, "
        f"the end is after {ended.seconds:.1f} s"
    )
