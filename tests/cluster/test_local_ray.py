"""The start of a local Ray: waited for while it makes progress; and nothing of it is left, however the job ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT
from w2v2.cluster.local_ray import StartWatch, child_processes, end_children
from w2v2.cluster.ray_internals import patient_start

BUSY = [sys.executable, "-c", "while True: pass"]


def watch_until(watch: StartWatch, seconds: float) -> bool:
    """Whether progress is seen for all of the seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not watch.makes_progress():
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(
    ("command", "progresses"), [(BUSY, True), (["sleep", "60"], False), (["true"], False)]
)
def test_progress_is_processor_time_of_living_processes(
    command: list[str], progresses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = child_processes()
    monkeypatch.setattr(StartWatch, "STALL_S", 0.6)
    process = subprocess.Popen(command)
    watch = StartWatch(before)
    assert watch_until(watch, 1.5) == progresses
    if progresses:
        monkeypatch.setattr(StartWatch, "LONGEST_S", 0.1)
        assert not watch.makes_progress()
    end_children(before)
    process.wait(timeout=10)


def test_what_children_have_started_is_ended_too(tmp_path: Path) -> None:
    before = child_processes()
    process = subprocess.Popen(["sh", "-c", f"sleep 100 & echo $! > {tmp_path}/pid; wait"])
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.02)
    end_children(before)
    process.wait(timeout=10)
    assert gone([int((tmp_path / "pid").read_text())], within_s=10)


def test_a_start_is_waited_for_while_it_makes_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    tries = []

    def get_node(*args: object) -> str:
        tries.append(args)
        if len(tries) < 4:
            raise RuntimeError("the node is not registered")
        return "node"

    monkeypatch.setattr(services, "get_node", get_node)
    with patient_start(lambda: True):
        assert services.get_node("address", "id") == "node"
    assert len(tries) == 4 and services.get_node is get_node
    tries.clear()
    with patient_start(lambda: len(tries) < 2), pytest.raises(RuntimeError, match="not registered"):
        services.get_node("address", "id")
    assert len(tries) == 2


def gone(processes: list[int], *, within_s: float) -> bool:
    """Whether all of the processes end within so many seconds; zombies of this process count as ended."""
    until = time.monotonic() + within_s
    while alive := [p for p in processes if Path(f"/proc/{p}/stat").exists() and state(p) != "Z"]:
        if time.monotonic() > until:
            print("alive:", [(p, Path(f"/proc/{p}/cmdline").read_text()[:80]) for p in alive])
            return False
        time.sleep(0.2)
    return True


def state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


NOT_IGNORED = """
import signal
if {number} != signal.SIGKILL:  # nohup and a shell's background have their children ignore some
    signal.signal({number}, signal.default_int_handler if {number} == signal.SIGINT else signal.SIG_DFL)
"""
JOB = """
import sys, time
from dataclasses import dataclass
from w2v2.cluster import connection
from w2v2.cluster.local_ray import child_processes, with_descendants
from w2v2.config.command_line import run_job
@dataclass(frozen=True)
class Config:
    seed: int = 0
def main(config):
    connection.start()
    task = connection.task(time.sleep, cpus=1, gpus=0)
    connection.get(task.remote(0))
    print(*with_descendants(child_processes()), flush=True)
    connection.get(task.remote(600))
sys.exit(run_job(main, Config, []))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_is_left_of_a_job_that_is_ended(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NOT_IGNORED.format(number=int(number)) + JOB],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as job:
        assert job.stdout is not None
        line = next(line for line in job.stdout if line.replace(" ", "").strip().isdigit())
        processes = [int(word) for word in line.split()]
        assert len(processes) > 2  # Ray's servers and a worker
        job.send_signal(number)
        _, err = job.communicate(timeout=120)
    # Ray's two agents end 62 s after a SIGKILL: for 60 s they try to report the loss to Ray's server, which is gone too.
    assert gone(processes, within_s=120)
    if number == signal.SIGKILL:
        assert job.returncode == -signal.SIGKILL
    else:
        assert job.returncode == 128 + number and "run the same command again" in err
