"""A local Ray for this job: on the loopback interface alone, and without imports from the folder where the job starts."""

import atexit
import contextlib
import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from w2v2.models.pretrained_name import START_FOLDER

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def away_from_start_folder() -> Iterator[None]:
    """A block in an empty working directory, as Ray lets workers import from the directory in which it is started.

    Otherwise a numpy.py among the user's data would be run. The name of the start folder, which workers need for
    relative names of encoders, is in the environment.
    """
    start = os.getcwd()
    os.environ[START_FOLDER] = start
    empty = tempfile.mkdtemp(prefix="w2v2-empty-")
    atexit.register(_remove, empty)  # workers are started in it until the job ends
    os.chdir(empty)
    try:
        yield
    finally:
        os.chdir(start)


def _remove(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def child_processes() -> set[int]:
    """Ids of the running child processes; empty on systems without /proc."""
    children: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children.update(map(int, task.read_text().split()))
    return children


def end_children(before: set[int]) -> None:
    """End the child processes that are not in `before`, and their children: they belong to a Ray that failed to start."""
    for process in with_descendants(child_processes() - before):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def with_descendants(processes: set[int]) -> set[int]:
    """The processes and all that they have started."""
    descendants, new = set(processes), set(processes)
    while new:
        children: set[int] = set()
        for process in new:
            for task in Path(f"/proc/{process}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    children.update(map(int, task.read_text().split()))
        new = children - descendants
        descendants |= new
    return descendants


class StartWatch:
    """Whether a Ray that is being started makes progress: its processes are alive and use processor time."""

    STALL_S = 60.0
    """After this many seconds without any progress a start has failed."""
    LONGEST_S = 600.0
    """A start that takes longer has failed, whatever its processes do."""
    REPORT_S = 30.0
    """Seconds between log lines that Ray is still starting."""

    def __init__(self, before: set[int]) -> None:
        self._before = before
        self._ticks = -1
        self._began = self._moved = self._reported = time.monotonic()

    def makes_progress(self) -> bool:
        """Whether the start has not failed yet: see STALL_S and LONGEST_S. Logs every REPORT_S."""
        started, now = child_processes() - self._before, time.monotonic()
        if any(_state(process) == "Z" for process in started):
            return False
        ticks = sum(_ticks(process) for process in with_descendants(started))
        if ticks > self._ticks:
            self._ticks, self._moved = ticks, now
        if now - self._reported > self.REPORT_S:
            self._reported = now
            logger.info("ray: still starting after %.0f s; this machine is busy", now - self._began)
        return now - self._moved < self.STALL_S and now - self._began < self.LONGEST_S


def _stat(process: int) -> list[str]:
    """The fields of /proc/<process>/stat behind the name, which may hold anything; none where it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(process: int) -> str:
    return (_stat(process) or [""])[0]


def _ticks(process: int) -> int:
    """Processor time that the process has used, in ticks of the system's clock."""
    fields = _stat(process)
    return int(fields[11]) + int(fields[12]) if fields else 0
