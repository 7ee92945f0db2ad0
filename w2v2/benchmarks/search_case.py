"""Cases search and head: trials x folds x epochs with a frozen trunk, by our job and by Trainer, trial for trial."""

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.encoders import encoder_folder
from w2v2.benchmarks.processes import in_new_process, run_job
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, Rounds, alternate
from w2v2.benchmarks.transformers_trainer import LabelledClips, PeerFold, check_trainer, search_with_trainer
from w2v2.benchmarks.uncached_training import with_recomputed
from w2v2.config.data import CacheConfig, DataConfig, FoldsConfig
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.config.resources import TrainingResources
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.data import folds, manifest
from w2v2.search.space import distribution, field_at, with_params
from w2v2.search.study import Study
from w2v2.storage import run_directory

logger = logging.getLogger(__name__)

TRAINER = "Trainer"
PRUNED = f"{OURS}, pruning between folds"
WANTED = {"search": (3.5, 7.0), "head": (100.0, 100.0)}
SPACE = {  # wide enough that some trials learn nothing, as in a search that needs pruning
    "optim.learning_rate": Dimension(low=1e-7, high=1e-3, log=True),
    "optim.weight_decay": Dimension(low=1e-4, high=0.3, log=True),
}


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The results of a search, by our job or by Trainer."""

    best: int
    scores: dict[int, float]
    """Mean UAR of each trial that has all its folds."""
    losses: dict[tuple[int, int], float]
    """Training loss of the last epoch, by trial and fold."""
    train_seconds: float
    """Seconds of training and scoring, without starts of processes, imports and computations that are done once."""


def search(config: BenchmarkConfig, scratch: Path, case: Literal["search", "head"]) -> CaseResult:
    """Seconds of a whole search: ours, ours with pruning, and Trainer's with the same hyperparameters."""
    check_trainer()
    lengths_s = synthetic_clips.ravdess_lengths_s(config.search.num_clips, seed=config.seed)
    corpus = synthetic_clips.write_corpus(scratch / "corpus", lengths_s, seed=config.seed)
    folder = encoder_folder(config.encoder, scratch / "encoder", seed=config.seed)
    job = job_of(config, corpus, folder, train="last" if case == "search" else "head")
    trials = proposals(job, scratch / "proposals")
    clips = labelled(job)

    def ours(pruning: Literal["none", "asha"]) -> Callable[[int], SearchResult]:
        def run(number: int) -> SearchResult:
            # A new run and a new cache: they are empty before the first trial.
            place = scratch / f"{pruning}-{number}"
            whole = replace(job, run=str(place / "run"), cache=CacheConfig(uri=str(place / "cache")))
            run_job("tune_folds", replace(whole, search=replace(whole.search, pruning=pruning)))
            return read_search(str(place / "run"))

        return run

    def theirs(number: int) -> SearchResult:
        made = in_new_process(search_with_trainer, config, folder, job.encoder, trials, clips)
        return summarised(made, config.search.num_folds)

    sides = {OURS: ours("none"), PRUNED: ours("asha"), TRAINER: theirs}
    rounds = alternate(sides, rounds=config.rounds_of(case), what=case)
    run = str(scratch / "none-0" / "run")
    return CaseResult(
        case=case,
        comparisons=compared(rounds, config, WANTED[case]),
        agreements=[*_between(rounds), *with_recomputed(run, job, trials[0], clips)],
        notes=[_trials_note(rounds)],
    )


def job_of(
    config: BenchmarkConfig, corpus: Path, folder: str, *, train: Literal["last", "head"]
) -> TuneFoldsConfig:
    """The settings of `w2v2 tune-folds`, all but its run and cache; trials one after another on all cores."""
    sizes = config.search
    return TuneFoldsConfig(
        seed=config.seed,
        data=DataConfig(uri=str(corpus)),
        folds=FoldsConfig(kind="consecutive", num_folds=sizes.num_folds),
        encoder=EncoderConfig(name=folder, train=train, num_last_layers=sizes.num_last_layers),
        head=HeadConfig(dropout=0.0),
        optim=OptimConfig(
            learning_rate=1e-4, schedule="linear", warmup_fraction=0.0, batch_size=sizes.batch_size
        ),
        training=TrainingConfig(num_epochs=sizes.num_epochs),
        search=SearchConfig(
            num_trials=sizes.num_trials,
            space=SPACE,
            pruning="none",
            num_startup_trials=max(
                5, sizes.num_trials
            ),  # random proposals, so that they do not depend on scores
            max_concurrent_trials=1,
        ),
        resources=TrainingResources(cpus_per_worker=config.threads),
    )


def proposals(job: TuneFoldsConfig, scratch: Path) -> list[OptimConfig]:
    """The hyperparameters of every trial, as the job's study will propose them."""
    defaults = {path: field_at(job, path) for path in job.search.space}
    space = {
        path: distribution(path, dimension, defaults[path]) for path, dimension in job.search.space.items()
    }
    study = Study(str(scratch), search=job.search, space=space, defaults=defaults, seed=job.seed)
    asked = [study.ask() for _ in range(job.search.num_trials)]
    return [with_params(job, proposal.params).optim for proposal in asked if proposal is not None]


def labelled(job: TuneFoldsConfig) -> LabelledClips:
    """The corpus as the job sees it: the same order, classes and folds."""
    corpus = manifest.read(job.data)
    clips = folds.assign(corpus.clips, job.folds)
    classes = manifest.classes_of(clips)
    return LabelledClips(
        waveforms=[soundfile.read(uri, dtype="float32")[0] for uri in clips["uri"].to_pylist()],
        targets=np.array([classes.index(label) for label in clips["label"].to_pylist()]),
        folds=np.asarray(clips["fold"]),
        num_classes=len(classes),
    )


def read_search(run: str) -> SearchResult:
    """The trials that the job has written."""
    trials = run_directory.read_table(run, "trials").to_pylist()
    done = {row["trial"]: row["uar_mean"] for row in trials if row["state"] == "COMPLETE"}
    scored = run_directory.read_table(run, "folds").to_pylist()
    return SearchResult(
        best=max(done, key=lambda trial: done[trial]),
        scores=done,
        losses={(row["trial"], row["fold"]): row["train_loss"] for row in scored},
        train_seconds=sum(row["seconds"] for row in scored),
    )


def summarised(made: Sequence[PeerFold], num_folds: int) -> SearchResult:
    """The results of a search of which Trainer has trained these folds."""
    scores = {
        trial: statistics.fmean(fold.uar for fold in made if fold.trial == trial)
        for trial in sorted({fold.trial for fold in made})
    }
    return SearchResult(
        best=max(scores, key=lambda trial: scores[trial]),
        scores=scores,
        losses={(fold.trial, fold.fold): fold.train_losses[-1] for fold in made},
        train_seconds=sum(fold.seconds for fold in made),
    )


def compared(
    rounds: Rounds, config: BenchmarkConfig, wanted: tuple[float, float]
) -> tuple[Comparison, Comparison, Comparison, Comparison]:
    """Seconds from command to end, and of training alone, each against ours without and with pruning."""
    sizes = config.search
    num_folds = sizes.num_trials * sizes.num_folds
    training = {
        side: [result.train_seconds for result in results] for side, results in rounds.results.items()
    }
    comparisons = []
    for part, seconds in (("from command to end", rounds.seconds), ("training and scoring alone", training)):
        for ours, ratio in ((OURS, wanted[0]), (PRUNED, wanted[1])):
            comparisons.append(
                Comparison(
                    part=part if ours == OURS else f"{part}, ours pruned",
                    seconds={OURS: seconds[ours], TRAINER: seconds[TRAINER]},
                    amount=num_folds,
                    unit="folds",
                    wanted={TRAINER: ratio},
                )
            )
    return (comparisons[0], comparisons[1], comparisons[2], comparisons[3])


# -- agreement


def _between(rounds: Rounds) -> list[Agreement]:
    """Ours against Trainer and against ours pruned."""
    ours, pruned, theirs = (rounds.results[side][-1] for side in (OURS, PRUNED, TRAINER))
    apart = max(abs(ours.losses[key] - theirs.losses[key]) for key in ours.losses)
    return [
        Agreement(part="losses", side=TRAINER, what="last training losses, max difference from ours", value=apart),
        Agreement(
            part="best trial", side=TRAINER, what="differs from ours (0: no, 1: yes)",
            value=float(theirs.best != ours.best),
        ),
        Agreement(
            part="best trial", side=PRUNED, what="differs from that without pruning (0: no, 1: yes)",
            value=float(pruned.best != ours.best), at_most=0.0,
        ),
    ]  # fmt: skip


def _trials_note(rounds: Rounds) -> str:
    lines = []
    for side, results in rounds.results.items():
        last = results[-1]
        scores = ", ".join(f"{trial}: {score:.3f}" for trial, score in sorted(last.scores.items()))
        lines.append(f"{side}: {len(last.losses)} folds, mean UAR by trial {scores}, best {last.best}")
    return "; ".join(lines)
