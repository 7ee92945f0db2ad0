"""Exactly once under kills and faults: jobs die at random lines while servers answer with errors or not.

A death is an exception that no `except` of ours catches, raised before a line of our code or of the HTTP
client; once dead, no further line runs, so nothing is tidied up that a kill would leave. W2V2_CHAOS_SEEDS
sets the number of seeds for each back end.
"""

import gc
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest

from tests import ROOT
from tests.tables.places import KINDS, Place, fold, make_place, make_rows, make_spec, rows_of

NUM_SEEDS = int(os.environ.get("W2V2_CHAOS_SEEDS", "2"))
MORTAL = (
    "w2v2/tables/",
    "w2v2/storage/files.py",
    "w2v2/storage/gcs.py",
    "w2v2/storage/local.py",
    "requests/adapters.py",
)
RATES = {"status": 0.05, "reset": 0.03, "lost_answer": 0.05, "truncate": 0.02}
DAMAGE = {"flip_byte": 0.02}
MAX_RUNS = 80


class Death(BaseException):
    """The process is gone."""


Line = tuple[str, int]


@contextmanager
def dying_at(place: Line | None, *, time: int = 1) -> Iterator[Counter[Line]]:
    """Raise Death before a line of the mortal files runs for the nth time, and before any line after it.

    Yields how often each line ran.
    """
    lines: Counter[Line] = Counter()
    mortal: dict[str, bool] = {}
    dead = False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal dead
        name = frame.f_code.co_filename
        if name not in mortal:
            mortal[name] = any(part in name for part in MORTAL)
        if not mortal[name]:
            return None
        if event == "line":
            line = (name, frame.f_lineno)
            lines[line] += 1
            dead = dead or (line == place and lines[line] == time)
            if dead:
                raise Death
        return trace

    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(None)


def draw_death(lines: Counter[Line], rng: random.Random) -> dict[str, Any]:
    """A line and how often it runs before it kills: more often than not one of the back end's own."""
    back_end_lines = [line for line in lines if re.search("tables/(duckdb|parquet|bigquery)_", line[0])]
    place = rng.choice(back_end_lines if rng.random() < 0.6 else list(lines))
    return {"place": place, "time": rng.randint(1, lines[place])}


def run_job(place: Place, tables: list[pa.Table], *, folder: str) -> None:
    """What a job does: leave out what is in the table, write parts, commit all parts of the run."""
    from w2v2.tables.parts import list_parts, write_part
    from w2v2.tables.table import open_table

    table = open_table(place.uri, make_spec())
    done = {tuple(row.values()) for row in table.read(["clip_id", "model", "checksum"]).to_pylist()}
    for rows in tables:
        keys = zip(*(rows[name].to_pylist() for name in ("clip_id", "model", "checksum")), strict=True)
        left = rows.filter(pa.array([key not in done for key in keys]))
        if left.num_rows:
            write_part(f"{place.parts}/{folder}", left, spec=make_spec())
    table.commit(list_parts(f"{place.parts}/{folder}"))


JOBS = [
    [make_rows(range(4), windows=3), make_rows(range(4, 7))],
    [make_rows(range(5, 9), minute=1, audio="y", windows=2), make_rows(range(3), minute=1, model="b", dim=5)],
    [make_rows(range(6), minute=2, audio="z"), make_rows(range(3, 8), minute=3, audio="z")],
]


def survey(place: Place) -> Counter[Line]:
    """How often each line runs in a job to which nothing happens."""
    run_job(place, JOBS[0], folder="job0")  # Imports what is not imported yet: those lines run but once.
    with dying_at(None) as lines:
        for job in (1, 2):
            run_job(place, JOBS[job], folder=f"job{job}")
    return Counter({line: count // 2 for line, count in sorted(lines.items()) if count > 1})


def break_things(place: Place, seed: str) -> None:
    place.gcs.faults.randomly(hash_of(seed), {**RATES, **DAMAGE})
    place.bigquery.faults.randomly(hash_of(seed), RATES)


def hash_of(seed: str) -> int:
    return random.Random(seed).getrandbits(32)


def repair(place: Place) -> None:
    place.gcs.faults.clear()
    place.bigquery.faults.clear()


def live_through(
    place: Place, job: int, rng: random.Random, allowed: list[Any], lines: Counter[Line]
) -> tuple[int, int]:
    """Numbers of deaths and failures until a run of the job ends; the table is looked at after each."""
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    num_deaths, num_failures = 0, 0
    for run in range(MAX_RUNS):
        break_things(place, f"{rng.random()} {run}")
        try:
            lives_on = rng.random() < 0.25
            with dying_at(None) if lives_on else dying_at(**draw_death(lines, rng)):
                run_job(place, JOBS[job], folder=f"job{job}")
            return num_deaths, num_failures
        except Death:
            num_deaths += 1
        except UserError:
            num_failures += 1
        finally:
            repair(place)
        # A killed process holds no connection and no open transaction.
        gc.collect()
        assert rows_of(open_table(place.uri, make_spec())) in allowed
    raise AssertionError(f"job {job} did not end in {MAX_RUNS} runs")


def live(place: Place, seed: int, lines: Counter[Line]) -> tuple[int, int]:
    """Two jobs that overlap, at times the first once more, through kills and faults."""
    from w2v2.tables.table import open_table

    rng = random.Random(seed)
    num_deaths, num_failures = 0, 0
    order = sorted(rng.sample(range(len(JOBS)), 2))
    order += order[: rng.randrange(2)]
    for step, job in enumerate(order):
        before, after = (fold(*(t for j in order[:n] for t in JOBS[j])) for n in (step, step + 1))
        deaths, failures = live_through(place, job, rng, [before, after], lines)
        num_deaths, num_failures = num_deaths + deaths, num_failures + failures
        assert rows_of(open_table(place.uri, make_spec())) == after
    return num_deaths, num_failures


@pytest.fixture
def quick_collection() -> None:
    """What earlier tests left need not be looked through at each death."""
    gc.collect()
    gc.freeze()


# A death in a destructor is only warned of; the next line dies too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("quick_collection")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "bigquery-local")) for kind in KINDS]
)
def test_tables_are_exact_through_kills_and_faults(kind: str, tmp_path: Path, servers: Any) -> None:
    num_deaths, num_failures = 0, 0
    lines = survey(make_place(kind, tmp_path, servers))
    for seed in range(NUM_SEEDS):
        place = make_place(kind, tmp_path / str(seed), servers)
        place.uri = place.uri.replace("tables/one", f"tables/{seed}").replace("ings", f"ings{seed}")
        place.parts = f"{place.parts}/{seed}"
        deaths, failures = live(place, seed, lines)
        num_deaths, num_failures = num_deaths + deaths, num_failures + failures
    faults = [each.fault for server in servers for each in server.requests if each.fault]
    print(f"{kind}: {NUM_SEEDS} seeds, {num_deaths} deaths, {num_failures} failed runs, {len(faults)} faults")
    # Without deaths this would prove nothing.
    assert num_deaths >= NUM_SEEDS
    if kind.startswith("bigquery"):
        assert [name for name in place.bigquery.tables() if "staging" in name] == []


@pytest.mark.slow
def test_the_same_chaos_breaks_a_naive_append(tmp_path: Path, servers: Any, monkeypatch: Any) -> None:
    from w2v2.tables.duckdb_table import DuckTable, _connection
    from w2v2.tables.parts import read_part
    from w2v2.tables.spec import Commit
    from w2v2.tables.table import open_table

    def append(self: DuckTable, parts: list[str]) -> Commit:
        for part in parts:
            with _connection(self._path, self.uri) as connection:
                connection.register("part", read_part(part, make_spec().schema.names))
                connection.execute(f"INSERT INTO {self._name} SELECT * FROM part")
        return Commit()

    monkeypatch.setattr(DuckTable, "commit", append)
    wanted = fold(*JOBS[0])
    quiet = make_place("duckdb", tmp_path / "quiet", servers)
    run_job(quiet, JOBS[0], folder="job0")
    assert rows_of(open_table(quiet.uri, make_spec())) == wanted
    lines = survey(quiet)
    with pytest.raises(AssertionError):
        for seed in range(20):
            place = make_place("duckdb", tmp_path / str(seed), servers)
            live_through(place, 0, random.Random(seed), [[], wanted], lines)


CHILD = """
import sys
from pathlib import Path
from tests.tables.places import make_place
from tests.tables.test_killed import JOBS, run_job
from w2v2.tables import bigquery_table as table_bigquery
from w2v2.tables import duckdb_table as table_duckdb
from w2v2.tables import parquet_table as table_parquet
place = make_place(sys.argv[1], Path(sys.argv[2]), (None, None))
print("ready", flush=True)
run_job(place, JOBS[int(sys.argv[3])], folder="job" + sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["duckdb", "parquet", "bigquery"])
def test_a_killed_process_run_again_leaves_the_same_table(kind: str, tmp_path: Path, servers: Any) -> None:
    from w2v2.tables.table import open_table

    rng, place = random.Random(kind), make_place(kind, tmp_path, servers)
    open_table(place.uri, make_spec())
    num_kills = 0
    for job in (0, 1):
        before, after = (fold(*(t for j in range(n) for t in JOBS[j])) for n in (job, job + 1))
        for longest_s in (0.1, 0.4, 60)[job:]:
            command = [sys.executable, "-c", CHILD, kind, str(tmp_path), str(job)]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ)) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
                try:
                    code = child.wait(rng.uniform(0, longest_s) if longest_s < 60 else longest_s)
                except subprocess.TimeoutExpired:
                    child.send_signal(signal.SIGKILL)
                    code = child.wait()
            num_kills += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL)
            rows = rows_of(open_table(place.uri, make_spec()))
            assert rows == after if code == 0 else rows in (before, after)
        assert code == 0
    assert num_kills > 0
