"""Case startup: seconds from a search's command to its first training step, and their causes.

The features are in the cache. Small extractions are measured as whole commands.
"""

import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.encoders import encoder_folder
from w2v2.benchmarks.extract_case import SINGLE, through_job
from w2v2.benchmarks.memory_case import NUM_TUNE_CLIPS, small_search
from w2v2.benchmarks.processes import CompletedCommand, job_file, run_command, run_job
from w2v2.benchmarks.result import OURS, CaseResult, Comparison
from w2v2.storage import run_directory

NUM_EXTRACT_CLIPS, EXTRACT_CLIP_S = (1, 20, 90), 3.0
FIRST_FOLD = "trial 0 fold 0 "
FIRST_STEP = "first training step"
_STAMP = re.compile(r"^\d\d:\d\d:\d\d ")
_IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
IMPORTS = {
    "the command's settings": ("--help",),
    "the driver": (
        "-c",
        "import w2v2.cluster.connection, w2v2.cluster.features, w2v2.cluster.search, w2v2.results.tune_folds",
    ),
    "a worker that trains": ("-c", "import ray, w2v2.training.trainer, w2v2.models.pretrained"),
}


def startup(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Seconds until the first step; which message came when; and the packages whose imports take longest."""
    lengths_s = synthetic_clips.ravdess_lengths_s(NUM_TUNE_CLIPS, seed=config.seed)
    corpus = synthetic_clips.write_corpus(scratch / "corpus", lengths_s, seed=config.seed)
    job = small_search(corpus, scratch, num_trials=1, seed=config.seed)
    run_job("tune_folds", job)  # fills the cache
    phases: dict[str, list[float]] = {}
    for number in range(config.rounds_of("startup")):
        run = str(scratch / f"run-{number}")
        ended = run_job("tune_folds", replace(job, run=run))
        for name, at_s in phases_of(ended, first_fold_s(run)):
            phases.setdefault(name, []).append(at_s)
    whole = Comparison(part="from command to first training step", seconds={OURS: phases[FIRST_STEP]})
    extractions = [small_extraction(config, num, scratch / f"{num}-clips") for num in NUM_EXTRACT_CLIPS]
    notes = [f"{statistics.median(at_s):6.2f} s: {name}" for name, at_s in phases.items()]
    return CaseResult(case="startup", comparisons=[whole, *extractions], notes=notes + _imports())


def small_extraction(config: BenchmarkConfig, num_clips: int, scratch: Path) -> Comparison:
    """A few clips from files to a table, processes and imports included, by us and by a program that embeds one clip at a time."""
    folder = encoder_folder(config.encoder, scratch / "encoder", seed=config.seed)
    clips = synthetic_clips.waveforms(np.full(num_clips, EXTRACT_CLIP_S), seed=config.seed)
    num_rounds = config.rounds_of("startup")
    rounds = through_job(config, folder, clips, SINGLE, scratch / "extract", rounds=num_rounds)
    return Comparison(
        part=f"extraction of {num_clips} clips of {EXTRACT_CLIP_S:g} s, whole command",
        seconds=rounds.seconds,
        cpu_seconds=rounds.cpu_seconds,
        amount=num_clips,
        unit="clips",
        wanted={SINGLE: 1.0},
    )


def first_fold_s(run: str) -> float:
    """Seconds of training and scoring of the first fold of a search."""
    rows = run_directory.read_table(run, "folds").to_pylist()
    return next(row["seconds"] for row in rows if (row["trial"], row["fold"]) == (0, 0))


def phases_of(ended: CompletedCommand, first_fold_s: float) -> list[tuple[str, float]]:
    """The job's messages up to its first fold, by what precedes their first colon, and when each came first.

    The first training step is as long before the first fold's message as that fold took.
    """
    phases: dict[str, float] = {}
    for at_s, line in ended.lines:
        message = _STAMP.sub("", line)
        if message.startswith(FIRST_FOLD):
            return [*phases.items(), (FIRST_STEP, at_s - first_fold_s)]
        if ":" in message and _STAMP.match(line):
            phases.setdefault(message.partition(":")[0], at_s)
    raise AssertionError("the job's log has no first fold")


def _imports() -> list[str]:
    """For each stage, seconds of imports by package, the longest first."""
    summaries = []
    for stage, args in IMPORTS.items():
        program = [str(job_file("tune_folds")), *args] if args[0] == "--help" else list(args)
        ended = run_command([sys.executable, "-X", "importtime", *program])
        by_package = import_seconds([line for _, line in ended.lines])
        longest = ", ".join(
            f"{name} {seconds:.2f}"
            for name, seconds in sorted(by_package.items(), key=lambda item: -item[1])[:8]
        )
        summaries.append(f"imports of {stage}: {sum(by_package.values()):.2f} s in all: {longest}")
    return summaries


def import_seconds(lines: Sequence[str]) -> dict[str, float]:
    """Seconds that each top-level package's modules took themselves, from python -X importtime."""
    seconds: dict[str, float] = {}
    for line in lines:
        if match := _IMPORT.match(line):
            package = match[2].partition(".")[0]
            seconds[package] = seconds.get(package, 0.0) + int(match[1]) / 1e6
    return seconds
