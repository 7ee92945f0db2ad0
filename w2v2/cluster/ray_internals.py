"""Internals of Ray, Ray Tune and Ray Train that may change in any version, in one place.

pyproject.toml bounds Ray's version, and tests/test_internals.py reports what a new one has changed. Import this before
Ray, which reads the environment when it is imported.
"""

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    # Ray's progress tables, usage reports and copies of our logs add nothing to our log lines.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Workers start as this process did, not by another `uv run`.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Tune would end a search at Ctrl-C as if it had all its trials.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Workers that have imported torch and loaded an encoder wait for the next fold instead of being ended.
    "RAY_idle_worker_killing_time_threshold_ms": "300000",
    # When several tasks fail with one cause, the first one's sentence is the message; no tracebacks of the others.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
}
"""Ray's settings for this process and its workers, where the user has not set them."""

RUNTIME_ENV = {"env_vars": {"PL_DISABLE_FORK": "1"}}
"""What Tune gives its trials, and tasks inherit from them: tasks share workers only within one environment."""

BOOTSTRAP = Path.home() / "ray_bootstrap_config.yaml"
"""The cluster's node types, on the head of a cluster that `ray up` made."""

ON_HEAD = {"node:__internal_head__": 0.001}
"""The resource that only a cluster's head has."""

SLOW_START = ("timed out during startup", "Failed to start GCS")
"""In the texts of the errors that Ray raises, without a class of their own, where it does not start in time."""

for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)


def cluster_record() -> Path:
    """The file with the address of the cluster that was last started on this machine, which Ray joins by default."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"


@contextlib.contextmanager
def patient_start(makes_progress: Callable[[], bool]) -> Iterator[None]:
    """Let a Ray that is being started take longer than its fixed 30 s, as long as it makes progress."""
    from ray._private import services

    get_node = services.get_node

    def get_node_patiently(*args: Any) -> Any:
        while True:
            try:
                return get_node(*args)
            except RuntimeError:  # it has not registered yet
                if not makes_progress():
                    raise
                time.sleep(0.2)

    services.get_node = get_node_patiently
    try:
        yield
    finally:
        services.get_node = get_node


def trial_error(trial: Any) -> BaseException | None:
    """The error of a trial of Tune; trial.get_error reads a file that Tune has not copied yet."""
    from ray import cloudpickle

    if trial.pickled_error_file is None:
        return trial.get_error()
    with open(trial.pickled_error_file, "rb") as file:
        return cloudpickle.load(file)


@contextlib.contextmanager
def ctrl_c_interrupts() -> Iterator[None]:
    """A block in which Ctrl-C raises KeyboardInterrupt: Ray Train's own handler would end the process with exit code 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
