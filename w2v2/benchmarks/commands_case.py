"""Case commands: seconds and memory of an extraction and a search as whole commands, by w2v2 and by the usual programs."""

import pickle
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.encoders import encoder_folder
from w2v2.benchmarks.extract_case import extraction_of, table_vectors
from w2v2.benchmarks.processes import CompletedCommand, job_file, run_command, run_job
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, Rounds, alternate
from w2v2.benchmarks.search_case import SearchResult, job_of, labelled, proposals, read_search, summarised
from w2v2.benchmarks.transformers_trainer import check_trainer
from w2v2.config.data import CacheConfig

PIPELINE = "pipeline of transformers"
TUNE = "Ray Tune and Trainer"


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """The result of a command, and its peak memory."""

    result: Any
    peak_bytes: int


def commands(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Seconds from command to end, processes and imports included, and the most memory of all its processes."""
    check_trainer()
    extraction = _extraction(config, scratch / "extraction")
    search = _search(config, scratch / "search")
    sizes = config.search
    comparisons = [
        _compared("extraction", extraction, config.extract.num_clips, "clips"),
        _compared("search", search, sizes.num_trials * sizes.num_folds, "folds"),
    ]
    agreements = [*_peaks("extraction", extraction), *_between_vectors(extraction)]
    agreements += [*_peaks("search", search), *_between_scores(search)]
    return CaseResult(case="commands", comparisons=comparisons, agreements=agreements)


def _extraction(config: BenchmarkConfig, scratch: Path) -> Rounds[CommandResult]:
    folder = encoder_folder(config.encoder, scratch / "encoder", seed=config.seed)
    lengths_s = synthetic_clips.ravdess_lengths_s(config.extract.num_clips, seed=config.seed)
    audio = scratch / "audio"
    synthetic_clips.write_wavs(audio, synthetic_clips.waveforms(lengths_s, seed=config.seed))

    def ours(number: int) -> CommandResult:
        run = scratch / f"run-{number}"
        ended = run_job("extract_embeddings", extraction_of(run, audio, folder), watch_memory=True)
        return CommandResult(result=table_vectors(run / "embeddings.db"), peak_bytes=ended.peak_bytes)

    def theirs(number: int) -> CommandResult:
        file = scratch / f"pipeline-{number}.npy"
        sizes = {"batch_size": config.extract.batch_size, "num_threads": config.threads}
        flags = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
        ended = _peer("extract_with_pipeline", folder, str(audio), str(file), *flags)
        return CommandResult(result=np.load(file), peak_bytes=ended.peak_bytes)

    return _alternate({OURS: ours, PIPELINE: theirs}, config, "extraction")


def _search(config: BenchmarkConfig, scratch: Path) -> Rounds[CommandResult]:
    lengths_s = synthetic_clips.ravdess_lengths_s(config.search.num_clips, seed=config.seed)
    corpus = synthetic_clips.write_corpus(scratch / "corpus", lengths_s, seed=config.seed)
    folder = encoder_folder(config.encoder, scratch / "encoder", seed=config.seed)
    job = job_of(config, corpus, folder, train="last")
    trials = proposals(job, scratch / "proposals")
    work = scratch / "work.pickle"
    work.write_bytes(pickle.dumps((config, folder, job.encoder, trials, labelled(job))))

    def ours(number: int) -> CommandResult:
        # A new run and a new cache: they are empty before the first trial.
        run, cache = str(scratch / f"run-{number}"), CacheConfig(uri=str(scratch / f"cache-{number}"))
        ended = run_job("tune_folds", replace(job, run=run, cache=cache), watch_memory=True)
        return CommandResult(result=read_search(run), peak_bytes=ended.peak_bytes)

    def theirs(number: int) -> CommandResult:
        file = scratch / f"folds-{number}.pickle"
        ended = _peer("search_with_tune", str(work), str(file))
        searched = summarised(pickle.loads(file.read_bytes()), config.search.num_folds)
        return CommandResult(result=searched, peak_bytes=ended.peak_bytes)

    return _alternate({OURS: ours, TUNE: theirs}, config, "search")


def _peer(name: str, *args: str) -> CompletedCommand:
    """A program of jobs/peers, run to its end."""
    return run_command([sys.executable, str(job_file(f"peers/{name}")), *args], watch_memory=True)


def _alternate(
    sides: dict[str, Callable[[int], CommandResult]], config: BenchmarkConfig, what: str
) -> Rounds[CommandResult]:
    return alternate(sides, rounds=config.rounds_of("commands"), what=f"commands, {what}")


def _compared(part: str, rounds: Rounds[CommandResult], amount: int, unit: str) -> Comparison:
    return Comparison(
        part=f"{part}, whole command",
        seconds=rounds.seconds,
        cpu_seconds=rounds.cpu_seconds,
        amount=amount,
        unit=unit,
    )


def _peaks(part: str, rounds: Rounds[CommandResult]) -> list[Agreement]:
    peaks = {side: [made.peak_bytes / 1e6 for made in results] for side, results in rounds.results.items()}
    return [
        Agreement(part=part, side=side, what="peak memory, MB", value=statistics.median(values))
        for side, values in peaks.items()
    ]


def _between_vectors(rounds: Rounds[CommandResult]) -> list[Agreement]:
    """The difference between our vectors and the pipeline's, which are means over padding, too."""
    ours, theirs = (_last(rounds, side).astype(np.float64) for side in (OURS, PIPELINE))
    difference = float(np.abs(ours - theirs).max())
    return [
        Agreement(part="extraction", side=PIPELINE, what="max abs difference from ours", value=difference)
    ]


def _last(rounds: Rounds[CommandResult], side: str) -> Float[np.ndarray, "clips dim"]:
    vectors: Float[np.ndarray, "clips dim"] = rounds.results[side][-1].result
    return vectors


def _between_scores(rounds: Rounds[CommandResult]) -> list[Agreement]:
    ours: SearchResult = rounds.results[OURS][-1].result
    theirs: SearchResult = rounds.results[TUNE][-1].result
    apart = max(abs(ours.losses[key] - theirs.losses[key]) for key in ours.losses)
    measure = "last training losses, max difference from ours"
    return [Agreement(part="search", side=TUNE, what=measure, value=apart)]
