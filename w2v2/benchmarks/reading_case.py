"""Case reading: many objects from a bucket that answers slowly, by w2v2 and by Google's client."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

from w2v2.benchmarks.config import BenchmarkConfig, ReadingSizes
from w2v2.benchmarks.decode_case import decode
from w2v2.benchmarks.processes import ROOT, in_new_process
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, Rounds, alternate
from w2v2.errors import UserError
from w2v2.storage import files as storage
from w2v2.storage.files import StorageError

if TYPE_CHECKING:
    from google.cloud.storage import Client

BUCKET = "bench"
ONE_AT_A_TIME = "google-cloud-storage, one at a time"
WANTED = 10.0


def reading(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Seconds to read the objects, and to decode and resample files."""
    sizes = config.reading
    rounds_of = config.rounds_of("reading")
    with loopback_bucket(sizes, seed=config.seed) as environment:
        rounds = in_new_process(read_rounds, sizes, environment, rounds_of)
    read = Comparison(
        part=f"objects of {sizes.object_bytes / 1000:g} kB, {1000 * sizes.latency_s:g} ms latency",
        seconds=rounds.seconds,
        cpu_seconds=rounds.cpu_seconds,
        amount=sizes.num_objects,
        unit="objects",
        wanted={ONE_AT_A_TIME: WANTED},
    )
    byte_agreements = [
        Agreement(
            part=read.part, side=side, what="bytes differ from ours (0: no, 1: yes)",
            value=float(results != rounds.results[OURS]), at_most=0.0,
        )
        for side, results in rounds.results.items()
        if side != OURS
    ]  # fmt: skip
    comparisons, agreements, notes = decode(config, scratch)
    return CaseResult(
        case="reading",
        comparisons=[read, *comparisons],
        agreements=[*byte_agreements, *agreements],
        notes=notes,
    )


def read_rounds(sizes: ReadingSizes, environment: dict[str, str], rounds: int) -> Rounds:
    """Every way to read all objects; each gives the digest of what it read, in order."""
    os.environ.update(environment)
    names = [_name(number) for number in range(sizes.num_objects)]
    client = _google_client()
    bucket = client.bucket(BUCKET)

    def ours(number: int) -> str:
        uris = [f"gs://{BUCKET}/{name}" for name in names]
        return _digest(storage.read_many(uris, num_at_once=sizes.num_at_once))

    def one_at_a_time(number: int) -> str:
        return _digest(bucket.blob(name).download_as_bytes() for name in names)

    def threads(number: int) -> str:
        with ThreadPoolExecutor(sizes.num_at_once) as pool:
            return _digest(pool.map(lambda name: bucket.blob(name).download_as_bytes(), names))

    sides: dict[str, Callable[[int], str]] = {OURS: ours, ONE_AT_A_TIME: one_at_a_time}
    sides[f"google-cloud-storage, {sizes.num_at_once} threads"] = threads
    storage.read_bytes(f"gs://{BUCKET}/{names[0]}")  # connections and imports
    bucket.blob(names[0]).download_as_bytes()
    return alternate(sides, rounds=rounds, what="reading")


def _google_client() -> "Client":
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    return Client(project="w2v2-bench", credentials=AnonymousCredentials())


def _name(number: int) -> str:
    return f"clips/{number:05d}.wav"


def _digest(bodies: Iterator[bytes | StorageError]) -> str:
    total = hashlib.sha256()
    for body in bodies:
        if isinstance(body, StorageError):
            raise body
        total.update(body)
    return total.hexdigest()


# -- the bucket


@contextmanager
def loopback_bucket(sizes: ReadingSizes, *, seed: int) -> Iterator[dict[str, str]]:
    """Environment variables that lead to a bucket in a process of its own, whose Python lock is not ours."""
    check_server()
    wanted = {
        "bucket": BUCKET,
        "names": [_name(number) for number in range(sizes.num_objects)],
        "object_bytes": sizes.object_bytes,
        "latency_s": sizes.latency_s,
        "seed": seed,
    }
    command = [sys.executable, "-m", "tests.cloud.serve_bucket", json.dumps(wanted)]
    with subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()  # which ends it


def check_server() -> None:
    """Raises UserError where the checkout has no loopback server."""
    path = ROOT / "tests" / "cloud" / "serve_bucket.py"
    if not path.exists():
        raise UserError(
            f"the case reading needs the loopback bucket of the tests, and there is no {path}: run it from a checkout"
        )
