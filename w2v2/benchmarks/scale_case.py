"""Case scale: what an extraction's driver takes for each clip, by the number of clips; audio and forward pass are stubs."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

from w2v2.benchmarks.config import BenchmarkConfig, ScaleSizes
from w2v2.benchmarks.processes import ROOT
from w2v2.benchmarks.result import Agreement, CaseResult
from w2v2.errors import UserError
from w2v2.json_types import JsonObject

logger = logging.getLogger(__name__)

MAX_PEAK_MB = 1500.0
MAX_CPU_US = {"first run": 60.0, "second run": 20.0}
"""Of the driver for each clip: where all is to be made, and where nothing is."""
MAX_REQUESTS = 1.1
"""For each clip, the one that reads it among them."""


@dataclass(frozen=True, kw_only=True)
class Driven:
    """A run of the driver, and the requests that it and its workers made."""

    took: JsonObject
    requests: dict[str, int]

    @property
    def num_clips(self) -> int:
        """Of the corpus."""
        return self.took["num_clips"]


def scale(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Peak memory, processor time for each clip and requests for each clip, in a first run and one with nothing to do."""
    check_driver()
    agreements, notes = [], []
    for num_clips in config.scale.num_clips:
        place = scratch / str(num_clips)
        place.mkdir(parents=True)
        runs = {}
        with corpus(num_clips) as bucket:
            for part in MAX_CPU_US:
                runs[part] = bucket.drive(config.scale, place)
                logger.info("%d clips, %s: %s", num_clips, part, _words(runs[part]))
        assert runs["first run"].took["num_made"] == num_clips, runs
        assert runs["second run"].took["there"] == num_clips and not runs["second run"].took["num_made"], runs
        for part, driven in runs.items():
            agreements += _agreements(f"{num_clips:,} clips, {part}", part, driven)
            notes.append(f"{num_clips:,} clips, {part}: {_words(driven)}")
    return CaseResult(case="scale", agreements=agreements, notes=notes)


def _agreements(name: str, part: str, driven: Driven) -> list[Agreement]:
    took, num_clips = driven.took, driven.num_clips
    # Each file that is embedded is read once, which the stub does not do.
    num_requests = sum(driven.requests.values()) + took["num_made"]
    numbers = {
        "driver's peak memory, MB": (took["peak_bytes"] / 1e6, MAX_PEAK_MB),
        "driver's processor time for each clip, us": (1e6 * took["cpu_s"] / num_clips, MAX_CPU_US[part]),
        "requests for each clip": (num_requests / num_clips, MAX_REQUESTS),
    }
    return [
        Agreement(part=name, side="driver", what=measure, value=value, at_most=at_most)
        for measure, (value, at_most) in numbers.items()
    ]


def _words(driven: Driven) -> str:
    took = driven.took
    kinds = ", ".join(f"{num} {kind}" for kind, num in sorted(driven.requests.items()))
    peak, grown = took["peak_bytes"] / 1e6, (took["peak_bytes"] - took["bytes_before"]) / 1e6
    return (
        f"{took['seconds']:.1f} s, of which the driver's processor {took['cpu_s']:.1f} s; at most {peak:.0f} MB, {grown:.0f} "
        f"more than with everything imported; requests: {kinds}"
    )


class Bucket:
    """The server of a corpus of so many clips, in a process of its own."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        assert server.stdin is not None and server.stdout is not None
        self._input, self._output = server.stdin, server.stdout
        self._environment = json.loads(self._output.readline())

    def drive(self, sizes: ScaleSizes, place: Path) -> Driven:
        """A run of the driver over the corpus; one that was run in the same place continues."""
        wanted = {
            "run": "gs://bench/runs/scale",
            "table": _table(sizes, place, "scale"),
            "warm_table": _table(sizes, place, "few"),
            "dim": sizes.dim,
        }
        self._counted()
        command = [sys.executable, "-m", "tests.cloud.scale_driver", json.dumps(wanted)]
        environment = os.environ | self._environment
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise UserError(f"the driver ended with code {ended.returncode}: {ended.stderr[-2000:]}")
        return Driven(took=json.loads(ended.stdout.splitlines()[-1]), requests=self._counted())

    def _counted(self) -> dict[str, int]:
        """Requests by kind since the last call."""
        self._input.write("\n")
        self._input.flush()
        return json.loads(self._output.readline())


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
