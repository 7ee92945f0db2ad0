"""The workers of a job: Ray's workers, or this process. Ray is imported only for its workers."""

import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, runtime_checkable

from w2v2.cluster.ray_internals import BOOTSTRAP, cluster_record
from w2v2.machine import gpu_names

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
P = ParamSpec("P")
T = TypeVar("T")


@runtime_checkable
class Task(Protocol[P]):
    """A function that runs on a worker."""

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Submit a call; `Workers.get` waits for its result."""
        ...


@runtime_checkable
class Workers(Protocol):
    """The interface between a job and its workers."""

    def gpus(self, wanted: float) -> float:
        """GPUs to ask for: `wanted`, or 0 without GPUs."""
        ...

    def slots(self, *, cpus: float, gpus: float, now: bool = False) -> int:
        """The number of workers of this size at the cluster's largest, or (now) as it is; at least 1."""
        ...

    def check_places(self, **places: str) -> None:
        """Raises UserError when a setting names a place that a worker cannot reach."""
        ...

    def task(self, function: Callable[P, object], *, cpus: float, gpus: float) -> Task[P]:
        """The function, for workers of this size."""
        ...

    def get(self, reference: Any) -> Any:
        """The result of a call; raises UserError where the function did."""
        ...

    def shared(self, value: T) -> T:
        """A large value in a form that many tasks can take as an argument."""
        ...

    def map_tasks(
        self,
        submit: Callable[[Item], Any],
        items: Sequence[Item],
        *,
        num_at_once: int,
        on_done: Callable[[int, Any], None],
    ) -> None:
        """Run submit(item) as tasks, num_at_once in flight; on_done(index, result) in order of completion."""
        ...


SMALL_NUM_CLIPS = 500
"""With at most this many clips, Ray takes longer to start than its workers save."""


def start_workers(*, local: bool | Literal["auto"], num_clips: int = 0, num_processes: int = 0) -> Workers:
    """This process where local is true, or auto and the work small; else the workers of Ray, joined or started.

    Work is small for up to SMALL_NUM_CLIPS clips and one process. Where Ray is asked for by RAY_ADDRESS, or runs in
    this process or on this machine already, it is used. Raises UserError where there is no such cluster, or Ray does
    not start.
    """
    small = num_clips <= SMALL_NUM_CLIPS and num_processes == 1 and not ray_is_at_hand()
    if local is True or (local == "auto" and small):
        logger.info("local: all work is done in this process, without Ray")
        return ThisProcess()
    from w2v2.cluster import connection

    connection.start()
    return connection


def ray_is_at_hand() -> bool:
    """Whether Ray has an address, is connected to by this process, or has a cluster on this machine."""
    is_recorded = cluster_record().exists() or BOOTSTRAP.exists()
    return is_recorded or bool(os.environ.get("RAY_ADDRESS")) or _is_connected()


def _is_connected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def num_threads(workers: Workers, cpus: float) -> int:
    """Threads of an encoder that asks for so many CPUs: all cores, as this process is the only worker."""
    if isinstance(workers, ThisProcess):
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(cpus))


@dataclass(frozen=True, kw_only=True)
class _Call(Generic[P]):
    """A task that runs in this process when its result is asked for."""

    compute: Callable[P, object]

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> "_Call[[]]":
        return _Call(compute=functools.partial(self.compute, *args, **kwargs))


class ThisProcess:
    """This process as the only worker: tasks run one after another, and every place is within reach."""

    def gpus(self, wanted: float) -> float:
        """The GPUs wanted, where this machine has one that torch can use."""
        if not gpu_names():  # spares importing torch
            return 0.0
        import torch

        return wanted if torch.cuda.is_available() else 0.0

    def slots(self, *, cpus: float, gpus: float, now: bool = False) -> int:
        """One."""
        return 1

    def check_places(self, **places: str) -> None:
        """Do nothing: this process reaches all places that the job reaches."""

    def task(self, function: Callable[P, object], *, cpus: float, gpus: float) -> _Call[P]:
        """The function."""
        return _Call(compute=function)

    def get(self, reference: "_Call[[]]") -> Any:
        """The result of a call, which runs now."""
        return reference.compute()

    def shared(self, value: T) -> T:
        """The value."""
        return value

    def map_tasks(
        self,
        submit: Callable[[Item], Any],
        items: Sequence[Item],
        *,
        num_at_once: int,
        on_done: Callable[[int, Any], None],
    ) -> None:
        """on_done(index, result) for each item in order."""
        for index, item in enumerate(items):
            on_done(index, self.get(submit(item)))
