"""Ray, local or a cluster: start it, ask for its resources, run tasks on it."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from w2v2.cluster.ray_internals import (
    RUNTIME_ENV,
    cluster_record,
    fewer_processes,
    is_slow_start,
    listen_on_loopback_alone,
    patient_start,
    signals_interrupt,
)

# isort: split

import ray  # after its environment was set

from w2v2.cluster import capacity
from w2v2.cluster.local_ray import (
    StartWatch,
    away_from_start_folder,
    child_processes,
    end_children,
)
from w2v2.cluster.worker_warnings import ReportingTask, logged, reporting
from w2v2.cluster.workers import Task
from w2v2.errors import UserError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_started_here = False

NUM_STARTS = 3
"""How often a Ray that does not start is started again."""


def start() -> None:
    """Connect to the cluster in RAY_ADDRESS or on this machine, or start one with this machine's resources.

    Raises UserError where there is no such cluster, or Ray does not start.
    """
    if not ray.is_initialized():
        logger.info("ray: starting, or joining the cluster that runs already")
        _init(tries_left=NUM_STARTS)
    have = ray.cluster_resources()
    logger.info("ray: %d node(s), %g CPUs, %g GPUs", len(ray.nodes()), have.get("CPU", 0), have.get("GPU", 0))


def started_by_this_process() -> bool:
    """Whether the Ray is one that this process has started for itself."""
    return _started_here


def _init(*, tries_left: int) -> None:
    global _started_here
    running = child_processes()
    try:
        address = _address()
        if address == "local":
            listen_on_loopback_alone()
        watch = StartWatch(running)
        with (
            away_from_start_folder(),
            patient_start(watch.makes_progress),
            fewer_processes(),
            signals_interrupt(),
        ):
            ray.init(
                address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False
            )
        _started_here = address == "local"
    except ConnectionError as error:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise UserError(
            f"no Ray cluster answers at {where} ({' '.join(str(error).split())[:200]}): start it, or unset RAY_ADDRESS "
            "for a Ray of this job's own"
        ) from error
    except Exception as error:  # Ray's own way to set this has no public name
        if not is_slow_start(error):
            raise
        ray.shutdown()
        end_children(running)
        if tries_left == 1:
            raise UserError(
                f"Ray did not start on this machine, {NUM_STARTS} times: it is too busy; end other work and run the same "
                "command again, or use --local true, which does without Ray"
            ) from error
        logger.warning("Ray did not start and made no progress any more; trying again")
        _init(tries_left=tries_left - 1)


def _address() -> str | None:
    """'local' where there is no cluster to join, or one was killed on this machine (Ray would wait for it); else None."""
    if named := os.environ.get("RAY_ADDRESS"):
        return "local" if named == "local" else None
    record = cluster_record()
    if not record.exists():
        return "local"
    where = record.read_text().strip()
    host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError):
        logger.warning(
            "ray: the cluster at %s, started on this machine, is gone; this job has a Ray of its own", where
        )
        return "local"
    return None


def gpus(wanted: float) -> float:
    """GPUs to ask for: `wanted`, or 0 if the cluster has none and cannot get any."""
    return wanted if capacity.largest().get("GPU", 0) > 0 else 0.0


def check_fits(*, num_workers: int = 1, cpus: float, gpus: float) -> None:
    """Raises UserError where so many workers together do not fit on this machine, and the Ray is this job's own.

    Ray would wait for ever. A cluster may grow, or be given larger machines.
    """
    have = capacity.present()
    if started_by_this_process() and capacity.num_fitting(have, cpus=cpus, gpus=gpus) < num_workers:
        wanted = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        raise UserError(
            f"{num_workers} worker(s) of {wanted} each do not fit on this machine, which has {have.get('CPU', 0):g} CPUs "
            f"and {have.get('GPU', 0):g} GPUs: ask for fewer or smaller ones (resources.num_workers, cpus_per_worker, gpus_per_worker), or run the command on a "
            "cluster"
        )


def slots(*, cpus: float, gpus: float, now: bool = False) -> int:
    """The number of workers of this size that fit into the cluster, at its largest or (now) as it is; at least 1.

    Raises UserError where none will ever fit.
    """
    check_fits(cpus=cpus, gpus=gpus)
    return max(
        1, capacity.num_fitting(capacity.present() if now else capacity.largest(), cpus=cpus, gpus=gpus)
    )


def check_places(**places: str) -> None:
    """Raises UserError when a setting names a local place and the cluster has several machines."""
    several = capacity.has_several_machines()
    local = [f"{name}={uri}" for name, uri in places.items() if not uri.startswith("gs://")]
    if several and local and not os.environ.get("W2V2_SHARED_DISK"):
        raise UserError(
            f"on a cluster of several machines all places must be in gs://, got {', '.join(local)}; if all machines "
            "share that disk, set W2V2_SHARED_DISK=1"
        )


def user_error(error: BaseException) -> UserError | None:
    """The UserError that caused an error from a worker, with the class that was raised there; None if there is none."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError):
            # Ray raises a class derived from both, whose text is the worker's traceback; its cause is the error itself.
            cause = getattr(seen, "cause", None)
            return cause if isinstance(cause, UserError) else seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def get(reference: "ray.ObjectRef[R]") -> R:
    """A task's result. Raises UserError where the task did."""
    try:
        result: R = logged(ray.get(reference))
        return result
    except ray.exceptions.RayError as error:
        mistake = user_error(error)
        if mistake is None:
            raise
        raise mistake from None


def task(function: Callable[P, object], *, cpus: float, gpus: float, in_trial: bool = False) -> Task[P]:
    """A remote function with fixed resources, which reuses idle workers of the same size, of this job or of its trials."""
    options: dict[str, Any] = {
        "num_cpus": cpus,
        "num_gpus": gpus,
        "max_retries": 3,
        "max_calls": 0,  # a worker with a GPU would otherwise end with its first task
        "scheduling_strategy": "DEFAULT",  # in addition to the resources that Tune holds for the trial
    }
    if not in_trial:  # a trial has it from Tune; giving it again would make another environment
        options["runtime_env"] = RUNTIME_ENV
    return ReportingTask(remote_reporting=ray.remote(**options)(reporting), function=function)


def shared(value: T) -> T:
    """A reference to a large value: tasks that get it as an argument receive the value."""
    reference: Any = ray.put(value)  # a task with the reference as an argument receives the value itself
    return reference


def map_tasks(
    submit: "Callable[[T], ray.ObjectRef[R]]",
    items: Sequence[T],
    *,
    num_at_once: int,
    on_done: Callable[[int, R], None],
) -> None:
    """Run submit(item) as tasks, num_at_once in flight; on_done(index, result) in order of completion."""
    waiting = list(enumerate(items))[::-1]
    flying: dict[ray.ObjectRef[R], int] = {}
    while waiting or flying:
        while waiting and len(flying) < num_at_once:
            index, item = waiting.pop()
            flying[submit(item)] = index
        done, _ = ray.wait(list(flying), num_returns=1)
        on_done(flying.pop(done[0]), get(done[0]))
