"""Internals of Ray, Ray Tune and Ray Train that may change in any version, in one place.

pyproject.toml bounds Ray's version, and tests/test_internals.py reports what a new one has changed. Import this before
Ray, which reads the environment when it is imported.
"""

import contextlib
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
    # Ray would start a worker for each CPU in another environment, which none of our tasks could use.
    "RAY_prestart_worker_first_driver": "0",
    # When several tasks fail with one cause, the first one's sentence is the message; no tracebacks of the others.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
}
"""Ray's settings for this process and its workers, where the user has not set them."""

RUNTIME_ENV = {"env_vars": {"PL_DISABLE_FORK": "1"}}
"""Environment variables that Tune sets in its trials, and tasks inherit: tasks share workers only within one
environment."""

BOOTSTRAP = Path.home() / "ray_bootstrap_config.yaml"
"""The cluster's node types, on the head of a cluster that `ray up` made."""

KUBERNETES = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The folder in which Kubernetes puts a pod's credentials and the name of its namespace."""

ON_HEAD = {"node:__internal_head__": 0.001}
"""The resource that only a cluster's head has."""

SLOW_START = ("timed out during startup", "Failed to start GCS")
"""Texts of the errors that Ray raises where it does not start in time; they have no class of their own."""

_START_ERRORS = (Exception, RuntimeError)
"""The classes of those errors."""

for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """A kind of machine that a cluster may start."""

    name: str
    max_workers: int
    resources: Mapping[str, float]
    """The resources of one such machine, by name (CPU, GPU)."""


def node_types() -> tuple[NodeType, ...]:
    """The kinds of machines that the cluster may start; () where it does not grow.

    They are in a file in the home of a head that `ray up` made, and in the RayCluster resource under KubeRay.
    """
    if BOOTSTRAP.exists():
        import yaml

        config = yaml.safe_load(BOOTSTRAP.read_text())
    elif cluster := os.environ.get("RAY_CLUSTER_NAME"):
        config = _kuberay_config(cluster)
    else:
        return ()
    return tuple(
        NodeType(name=name, max_workers=kind.get("max_workers", 0), resources=kind.get("resources", {}))
        for name, kind in config["available_node_types"].items()
    )


def _kuberay_config(cluster: str) -> dict[str, Any]:
    """The configuration that Ray's autoscaler derives from the RayCluster resource of this name, read with the rights of this pod."""
    from ray.autoscaler._private.kuberay import autoscaling_config, node_provider

    namespace = os.environ.get("RAY_CLUSTER_NAMESPACE") or (KUBERNETES / "namespace").read_text().strip()
    client = node_provider.KubernetesHttpApiClient(namespace)
    try:
        resource = client.get(f"rayclusters/{cluster}")
    except Exception as error:  # an error of requests, or a missing file of credentials
        logging.getLogger(__name__).warning(
            "ray: this pod may not read the RayCluster %s (%s), so work is sized by the machines that are up; let its "
            "service account get rayclusters",
            cluster,
            " ".join(str(error).split())[:200],
        )
        return {"available_node_types": {}}
    if not resource["spec"].get("enableInTreeAutoscaling"):
        return {"available_node_types": {}}
    config: dict[str, Any] = autoscaling_config._derive_autoscaling_config_from_ray_cr(resource)
    return config


def growth_limits() -> dict[str, float]:
    """The most that a cluster may have, by resource, where its autoscaler has reported it to Ray; else {}."""
    import ray

    return {
        k: float(v)
        for k, v in (ray._private.state.state.get_max_resources_from_cluster_config() or {}).items()
    }


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


@contextlib.contextmanager
def fewer_processes() -> Iterator[None]:
    """Let Ray start without the parts that a job alone on one machine does not use: they take more than half of the wait.

    They are the server of the dashboard (ray.init waits for it even without a dashboard), the monitor of the
    autoscaler, and the reader of the workers' logs.
    """
    from ray._private import node, services

    left_out: dict[tuple[Any, str], Callable[..., Any]] = {
        (services, "start_api_server"): lambda *args, **settings: ("", None),
        (node.Node, "start_monitor"): lambda node: None,
        (node.Node, "start_log_monitor"): lambda node: None,
    }
    kept = {place: getattr(*place) for place in left_out}
    for place, function in left_out.items():
        setattr(*place, function)
    try:
        yield
    finally:
        for place, function in kept.items():
            setattr(*place, function)


def listen_on_loopback_alone() -> None:
    """Make Ray on Linux listen on the loopback interface alone, as it does on other systems."""
    from ray._private import ray_constants

    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def is_slow_start(error: BaseException) -> bool:
    """Whether ray.init gave up because Ray did not start in time; not where a task or another part of it fails."""
    return type(error) in _START_ERRORS and any(words in str(error) for words in SLOW_START)


def returned(result: Any) -> Any:
    """The value that rank 0 of a training of Ray Train returned; only results of Train's second version have it."""
    return result.return_value


def starts_again(trial: Any) -> bool:
    """Whether Tune starts a trial again that has ended with an error."""
    return trial.should_recover()


def trial_error(trial: Any) -> BaseException | None:
    """The error of a trial of Tune; trial.get_error reads a file that Tune has not copied yet."""
    from ray import cloudpickle

    if trial.pickled_error_file is None:
        return trial.get_error()
    with open(trial.pickled_error_file, "rb") as file:
        return cloudpickle.load(file)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """A block in which Ray may handle SIGINT and SIGTERM; afterwards the earlier handlers are back.

    Raises KeyboardInterrupt in place of Ray's SystemExit: after ray.init, SIGTERM would end the process with exit code 15,
    and in Ray Train Ctrl-C would end it with exit code 0.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
