"""Compare this package with the usual tools, side by side, on this machine, at equal results.

    w2v2 benchmark extract                     # vectors of clips, against the AutoModel loop
    w2v2 benchmark search head all             # training, against Hugging Face's Trainer
    w2v2 benchmark gpu                         # a GPU's speed: the part used, and the causes of the rest
    w2v2 benchmark pretrain                    # pre-training, against Hugging Face's example
    w2v2 benchmark ctc                         # transcripts, against Hugging Face's example
    w2v2 benchmark reading memory startup
    w2v2 benchmark commands                    # an extraction and a search as whole commands, against usual programs
    w2v2 benchmark vectors                     # heads over cached vectors, against scikit-learn and Trainer
    w2v2 benchmark scale --scale.num_clips '[1000000]'         # the drivers of jobs, by the number of clips
    w2v2 benchmark extract --encoder tiny --extract.num_clips 8 --rounds 1      # a quick look
    w2v2 benchmark extract --through_job true  # whole commands, from files to a table

Each side runs in turn in one process tree, on the same audio, weights, epochs and batches; medians, ratios
with their spread and how far results agree are printed with the machine and the date. Cases that compare
with Trainer need accelerate, memory and commands need psutil (pip install 'w2v2[bench]'); reading and
scale need a checkout.

Reads   nothing: audio and weights are made; --encoder may be a hub name or a folder.
Writes  <run>/benchmark.parquet (every round), benchmark-<case>.json and plots/benchmark-<cases>.png
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from w2v2.benchmarks.config import BenchmarkConfig, Case
from w2v2.benchmarks.result import CaseResult, joined, lines_of
from w2v2.config import command_line
from w2v2.config.guide import Guide
from w2v2.models.architecture import refuse_unusable
from w2v2.storage import files as storage

logger = logging.getLogger("w2v2.jobs.benchmark")

GUIDE = Guide(
    command="benchmark",
    summary="Compare this package with the usual tools, side by side, on this machine, at equal results.",
    usage="CASE ... ",
    flags={
        "encoder": "base (random weights), tiny, a hub name or a folder",
        "rounds": "how often each side runs; 0 suits the case",
        "num_threads": "threads of each side; 0 is one for each core",
        "through_job": "extract: also whole commands, from files to a table",
        "run": "the run directory, local or gs://",
    },
    examples=(
        "w2v2 benchmark extract --encoder tiny --extract.num_clips 8 --rounds 1      # a quick look",
        "w2v2 benchmark search head all pretrain reading memory startup              # all cases, hours",
    ),
)


def main(config: BenchmarkConfig) -> list[CaseResult]:
    """The results of the cases, after they have been printed and written."""
    from w2v2.benchmarks import report

    config = replace(config, run=storage.expand(config.run))
    if config.encoder not in ("base", "tiny"):
        refuse_unusable(config.encoder, field="encoder")
    machine = report.machine()
    logger.info("%s", report.machine_line(machine))
    results: list[CaseResult] = []
    for case in config.cases:
        with tempfile.TemporaryDirectory(prefix=f"w2v2-bench-{case}-") as scratch:
            parts: list[CaseResult] = []
            for part in run_case(case, config, Path(scratch)):
                parts.append(part)
                for line in lines_of(part):
                    logger.info("%s", line)
                report.write(config, [*results, joined(parts)], machine)
        results.append(joined(parts))
    logger.info("written to %s", config.run)
    return results


def run_case(case: Case, config: BenchmarkConfig, scratch: Path) -> Iterator[CaseResult]:
    """The result of one case, or of its parts one after the other; the modules of other cases are not imported."""
    match case:
        case "gpu":
            from w2v2.benchmarks.gpu_case import gpu

            yield from gpu(config, scratch)
        case "search" | "head" | "all" | "pretrain" | "ctc" | "vectors":
            yield compare_trainings(case, config, scratch)
        case _:
            yield measure_job(case, config, scratch)


def compare_trainings(case: Case, config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """The result of a case that trains by this package and by another one."""
    match case:
        case "search" | "head":
            from w2v2.benchmarks.search_case import search

            return search(config, scratch, case)
        case "all":
            from w2v2.benchmarks.train_case import train

            return train(config, scratch)
        case "pretrain":
            from w2v2.benchmarks.pretrain_case import pretrain

            return pretrain(config)
        case "ctc":
            from w2v2.benchmarks.ctc_case import ctc

            return ctc(config)
        case "vectors":
            from w2v2.benchmarks.vectors_case import vectors

            return vectors(config, scratch)
    raise AssertionError(f"{case} trains nothing")


def measure_job(case: Case, config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """The result of a case that measures an extraction, whole commands, or what jobs read and need."""
    match case:
        case "extract":
            from w2v2.benchmarks.extract_case import extract

            return extract(config, scratch)
        case "reading":
            from w2v2.benchmarks.reading_case import reading

            return reading(config, scratch)
        case "memory":
            from w2v2.benchmarks.memory_case import memory

            return memory(config, scratch)
        case "scale":
            from w2v2.benchmarks.scale_case import scale

            return scale(config, scratch)
        case "startup":
            from w2v2.benchmarks.startup_case import startup

            return startup(config, scratch)
        case "commands":
            from w2v2.benchmarks.commands_case import commands

            return commands(config, scratch)
    raise AssertionError(f"{case} measures no job")


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, BenchmarkConfig, args, words="cases", guide=GUIDE)
