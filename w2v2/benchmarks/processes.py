"""Measurements in separate processes: of a job's command, or of a function."""

import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from w2v2.config import command_line
from w2v2.errors import UserError
from w2v2.storage import files as storage

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
SAMPLE_EVERY_S = 0.05
NEWLY_FORKED_S = 0.1
"""For this many seconds after its start a process may still be a copy of its parent, before it becomes another
program."""
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class CompletedCommand:
    """A command that ended with exit code 0: its lines with the time of each, and its peak memory."""

    lines: list[tuple[float, str]]
    """Seconds after the start, and the text."""
    seconds: float
    peak_bytes: int = 0
    """Peak resident memory of the process and its descendants; 0 where it was not measured."""


def job_file(name: str) -> Path:
    """The program of a job; raises UserError where the package is installed without its checkout."""
    path = ROOT / "jobs" / f"{name}.py"
    if not path.exists():
        raise UserError(f"there is no {path}: run jobs/benchmark.py from a checkout of the repository")
    return path


def run_job(name: str, config: object, *, watch_memory: bool = False) -> CompletedCommand:
    """A job's command with these settings, run to its end; raises UserError with its last words if it fails."""
    with tempfile.TemporaryDirectory(prefix="w2v2-bench-") as folder:
        file = storage.join(folder, "config.yaml")
        storage.write_text(file, command_line.dump(config))
        return run_command([sys.executable, str(job_file(name)), "--config", file], watch_memory=watch_memory)


def run_command(command: Sequence[str], *, watch_memory: bool = False) -> CompletedCommand:
    """A command, run to its end; raises UserError with its last words if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    watch = MemoryWatch(process.pid) if watch_memory else None
    assert process.stdout is not None
    lines = [(time.perf_counter() - started, line.rstrip("\n")) for line in process.stdout]
    code = process.wait()
    seconds = time.perf_counter() - started
    peak_bytes = watch.stop() if watch else 0
    if code:
        last_lines = " / ".join(text for _, text in lines[-3:])
        raise UserError(f"{Path(command[1]).name} ended with code {code}: {last_lines}")
    return CompletedCommand(lines=lines, seconds=seconds, peak_bytes=peak_bytes)


class MemoryWatch:
    """Samples the resident memory of a process and its descendants every SAMPLE_EVERY_S seconds."""

    def __init__(self, pid: int) -> None:
        try:
            import psutil
        except ImportError as error:
            raise UserError(
                "the memory of a command is measured by psutil: install it with pip install 'w2v2[bench]'"
            ) from error
        self._psutil, self._process = psutil, psutil.Process(pid)
        self._peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most bytes that were resident at once."""
        self._ended.set()
        self._thread.join()
        return self._peak_bytes

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            self._peak_bytes = max(self._peak_bytes, self._resident_bytes())

    def _resident_bytes(self) -> int:
        try:
            processes = [self._process, *self._process.children(recursive=True)]
        except self._psutil.NoSuchProcess:
            return 0
        return sum(self._resident(process) for process in processes)

    def _resident(self, process: "psutil.Process") -> int:
        try:
            is_new = time.time() - process.create_time() < NEWLY_FORKED_S
            return 0 if is_new else process.memory_info().rss
        except self._psutil.Error:  # ended after it was listed
            return 0


def in_new_process(function: Callable[P, R], *args: P.args, **settings: P.kwargs) -> R:
    """The function's result, computed in a new Python process, which imports its modules anew."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **settings).result()
