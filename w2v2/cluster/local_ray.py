"""A local Ray for this job: on the loopback interface alone, and without imports from the folder where the job starts."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from w2v2.models.pretrained_name import START_FOLDER


@contextlib.contextmanager
def away_from_start_folder() -> Iterator[None]:
    """A block in an empty working directory, as Ray lets workers import from the directory in which it is started.

    Otherwise a numpy.py among the user's data would be run. The name of the start folder, which workers need for
    relative names of encoders, is in the environment.
    """
    start = os.getcwd()
    os.environ[START_FOLDER] = start
    os.chdir(tempfile.mkdtemp(prefix="w2v2-empty-"))
    try:
        yield
    finally:
        os.chdir(start)


def listen_on_loopback_alone() -> None:
    """Make Ray on Linux listen on the loopback interface alone, as it does on other systems."""
    from ray._private import ray_constants

    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def child_processes() -> set[int]:
    """Ids of the running child processes; empty on systems without /proc."""
    children: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children.update(map(int, task.read_text().split()))
    return children


def end_children(before: set[int]) -> None:
    """End the child processes that are not in `before`: those of a Ray that failed to start."""
    for process in child_processes() - before:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
