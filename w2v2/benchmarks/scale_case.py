"""Case scale: time, memory and requests of a job's driver for each clip, by the number of clips; audio and encoder are stubs."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from subprocess import PIPE

from w2v2.benchmarks.config import BenchmarkConfig, ScaleJob, ScaleSizes
from w2v2.benchmarks.processes import ROOT
from w2v2.benchmarks.result import Agreement, CaseResult
from w2v2.errors import UserError
from w2v2.json_types import JsonObject

logger = logging.getLogger(__name__)

PARTS = ("first run", "second run")
MAX_PEAK_MB = 1500.0
MAX_CPU_US = {"first run": 60.0, "second run": 20.0}
"""The limits of processor time of an extraction's driver for each clip, in a run that makes everything and in one with
nothing to do."""
MAX_REQUESTS = 1.1
"""The limit of requests for each clip, with the one that reads it."""


@dataclass(frozen=True, kw_only=True)
class DriverRun:
    """A run of the driver, and the requests that it and its workers made."""

    took: JsonObject
    requests: dict[str, int]

    @property
    def num_clips(self) -> int:
        """Clips of the corpus."""
        return self.took["num_clips"]

    @property
    def grown_bytes(self) -> int:
        """The largest growth of the driver's memory after its imports."""
        return self.took["peak_bytes"] - self.took["bytes_before"]


def scale(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Peak memory, processor time for each clip and requests for each clip, in a first run and one with nothing to do."""
    check_driver()
    agreements, notes = [], []
    for job in config.scale.jobs:
        for num_clips in config.scale.num_clips:
            with tempfile.TemporaryDirectory(dir=scratch) as place, corpus(num_clips) as bucket:
                runs = {part: bucket.drive(job, config, Path(place), num_clips) for part in PARTS}
            made = [driven.took["num_made"] for driven in runs.values()]
            assert made == [num_clips, 0], made
            for part, driven in runs.items():
                name = f"{job}, {num_clips:,} clips, {part}"
                agreements += _agreements(name, job, part, driven)
                notes.append(f"{name}: {_words(driven)}")
    return CaseResult(case="scale", agreements=agreements, notes=notes)


def _agreements(name: str, job: ScaleJob, part: str, driven: DriverRun) -> list[Agreement]:
    took, num_clips = driven.took, driven.num_clips
    # Each file that is used is read once, which the stub does not do.
    num_requests = sum(driven.requests.values()) + took["num_made"]
    is_extraction = job == "extract_embeddings"
    numbers = {
        "driver's peak memory without mapped files, MB": (took["anonymous_bytes"] / 1e6, MAX_PEAK_MB),
        "driver's peak memory, MB": (took["peak_bytes"] / 1e6, MAX_PEAK_MB if is_extraction else inf),
        "driver's memory grown for each clip, bytes": (driven.grown_bytes / num_clips, inf),
        "driver's processor time for each clip, us": (
            1e6 * took["cpu_s"] / num_clips,
            MAX_CPU_US[part] if is_extraction else inf,
        ),
        "requests for each clip": (num_requests / num_clips, MAX_REQUESTS),
    }
    return [
        Agreement(part=name, side="driver", what=measure, value=value, at_most=at_most)
        for measure, (value, at_most) in numbers.items()
    ]


def _words(driven: DriverRun) -> str:
    took = driven.took
    kinds = ", ".join(f"{num} {kind}" for kind, num in sorted(driven.requests.items()))
    worker = (
        f"; the worker grew by {took['worker_grown_bytes'] / 1e6:.0f} MB"
        if "worker_grown_bytes" in took
        else ""
    )
    return (
        f"{took['seconds']:.1f} s, of which the driver's processor {took['cpu_s']:.1f} s; at most {took['peak_bytes'] / 1e6:.0f} MB, "
        f"{driven.grown_bytes / 1e6:.0f} more than with everything imported, and {took['anonymous_bytes'] / 1e6:.0f} MB without "
        f"mapped files{worker}; requests: {kinds}"
    )


class Bucket:
    """The server of a corpus of so many clips, in a process of its own."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        assert server.stdin is not None and server.stdout is not None
        self._input, self._output = server.stdin, server.stdout
        self._environment = json.loads(self._output.readline())

    def drive(self, job: ScaleJob, config: BenchmarkConfig, place: Path, num_clips: int) -> DriverRun:
        """A run of a job's driver over the corpus; a run that was begun in the same place continues.

        Raises UserError where the driver fails.
        """
        program, wanted = _program(job, config, place, num_clips)
        self._counted()
        command = [sys.executable, "-m", f"tests.cloud.{program}", json.dumps(wanted)]
        environment = os.environ | self._environment
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise UserError(f"the driver ended with code {ended.returncode}: {ended.stderr[-2000:]}")
        driven = DriverRun(took=json.loads(ended.stdout.splitlines()[-1]), requests=self._counted())
        logger.info("%s, %d clips: %s", job, num_clips, _words(driven))
        return driven

    def _counted(self) -> dict[str, int]:
        """Requests by kind since the last call."""
        self._input.write("\n")
        self._input.flush()
        return json.loads(self._output.readline())


def _program(
    job: ScaleJob, config: BenchmarkConfig, place: Path, num_clips: int
) -> tuple[str, dict[str, str | int]]:
    """The module of tests/cloud that drives a job, and its argument."""
    run = f"gs://bench/runs/{job}"
    if job == "extract_embeddings":
        tables = {name: _table(config.scale, place, name) for name in ("embeddings", "few")}
        return "scale_driver", {
            "run": run,
            "table": tables["embeddings"],
            "warm_table": tables["few"],
            "dim": config.scale.dim,
        }
    encoder = place / "encoder"
    if not encoder.exists():
        from w2v2.benchmarks.encoders import encoder_folder  # imports transformers

        encoder_folder("tiny", encoder, seed=config.seed)
    return "scale_training", {
        "job": job,
        "run": run,
        "cache": str(place / "cache"),
        "folder": str(place),
        "encoder": str(encoder),
        "num_clips": num_clips,
    }


@contextmanager
def corpus(num_clips: int) -> Iterator[Bucket]:
    """A loopback bucket with so many clips, and a BigQuery next to it."""
    command = [sys.executable, "-m", "tests.cloud.serve_corpus", json.dumps({"num_clips": num_clips})]
    with subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        try:
            yield Bucket(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()  # which ends it


def _table(sizes: ScaleSizes, place: Path, name: str) -> str:
    match sizes.table:
        case "duckdb":
            return f"duckdb://{place}/{name}.db?table=embeddings"
        case "parquet":
            return f"gs://bench/tables/{name}"
        case "bigquery":
            return f"bq://w2v2-bench.scale.{name}"


def check_driver() -> None:
    """Raises UserError where the checkout has no loopback servers."""
    path = ROOT / "tests" / "cloud" / "scale_driver.py"
    if not path.exists():
        raise UserError(
            f"the case scale needs the loopback servers of the tests, and there is no {path}: run it from a checkout"
        )
