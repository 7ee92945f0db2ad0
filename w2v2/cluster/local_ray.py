"""A Ray of this job's own: on the loopback interface alone, and with nothing of the folder where the job is started."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from w2v2.models.pretrained_name import START_FOLDER


@contextlib.contextmanager
def away_from_start_folder() -> Iterator[None]:
    """Work in an empty folder meanwhile: Ray lets workers import from the folder in which it is started.

    A numpy.py among somebody's data would be run otherwise. What workers need of the folder itself, for relative
    names of encoders, is in the environment.
    """
    start = os.getcwd()
    os.environ[START_FOLDER] = start
    os.chdir(tempfile.mkdtemp(prefix="w2v2-empty-"))
    try:
        yield
    finally:
        os.chdir(start)


def listen_on_loopback_alone() -> None:
    """Let Ray on Linux do what it does on other systems: only this machine reaches a local cluster."""
    from ray._private import ray_constants

    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def child_processes() -> set[int]:
    """The processes that this one has started and that run; none where there is no /proc."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, task.read_text().split()))
    return found


def end_children(known: set[int]) -> None:
    """End the child processes that are not among those known: what a Ray that did not start has left."""
    for process in child_processes() - known:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
