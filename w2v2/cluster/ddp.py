"""A training on several workers: Ray Train, PyTorch DDP, every worker with its share of every batch."""

import contextlib
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from w2v2.cluster.ray_internals import returned, signals_interrupt
from w2v2.cluster.worker_warnings import ReportedResult, logged, reporting

# isort: split

import ray
import ray.train
import ray.train.torch
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from w2v2.cluster import connection
from w2v2.training.process_group import ProcessGroup

T = TypeVar("T")

MAX_LOSSES, MAX_LOSSES_ELASTIC = 2, 20
"""How often a training starts again from its newest checkpoint after the loss of a worker."""
RESIZE_S = 30.0
"""Seconds after which an elastic training looks for room for more workers."""

Report = Callable[..., None]
"""Called by the first worker with plain values; it arrives in the job's own process."""


def train_on_workers(
    work: Callable[[ProcessGroup, Report], T],
    *,
    report: Report,
    num_workers: int,
    min_workers: int = 0,
    cpus: float,
    gpus: float,
    name: str,
) -> T:
    """The result of the first of `num_workers` processes: one runs as a task, several under Ray Train.

    With min_workers their number may fall to that, and rise again when there is room; `work` is called again after each
    change.
    Arguments of their calls of `report` reach `report` in this process. Raises UserError where they do.
    """
    with _queue_into(report) as queue:
        try:
            if num_workers == 1:  # on a worker that has loaded the encoder already
                task = connection.task(_with_queue, cpus=cpus, gpus=gpus)
                return logged(ray.get(task.remote(work, queue, ProcessGroup())))
            with tempfile.TemporaryDirectory(prefix="w2v2-train-") as scratch:
                reported = work_together(
                    functools.partial(_with_queue, work, queue),
                    num_workers=num_workers,
                    min_workers=min_workers,
                    cpus=cpus,
                    gpus=gpus,
                    name=name,
                    storage_path=scratch,
                )
            return logged(reported)
        except Exception as error:
            raise connection.user_error(error) or error from error


def train_each(
    works: Sequence[Callable[[ProcessGroup, Report], T]],
    *,
    report: Report,
    cpus: float,
    gpus: float,
    on_done: Callable[[int, T], None],
) -> None:
    """Trainings of one process each, as many at once as the cluster has room for; on_done(number, what it returns).

    Arguments of their calls of `report` reach `report` in this process. Raises UserError where one does.
    """
    with _queue_into(report) as queue:
        task = connection.task(_with_queue, cpus=cpus, gpus=gpus)
        connection.map_tasks(
            lambda work: task.remote(work, queue, ProcessGroup()),
            works,
            num_at_once=connection.slots(cpus=cpus, gpus=gpus),
            on_done=on_done,
        )


def _with_queue(work: Callable[[ProcessGroup, Report], T], queue: Queue, group: ProcessGroup) -> T:
    """Work in this process, alone or as one of several; runs on a worker."""
    return work(group, lambda *values: queue.put(values))


@contextlib.contextmanager
def _queue_into(report: Report) -> Iterator[Queue]:
    """A block with a queue for workers, whose items reach `report` in this process."""
    # On this job's own node, as other nodes come and go.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def listen() -> None:
        while (values := queue.get()) is not None:
            report(*values)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield queue
    finally:
        queue.put(None)
        listener.join(timeout=10)
        queue.shutdown()


def work_together(
    compute: Callable[[ProcessGroup], T],
    *,
    num_workers: int,
    min_workers: int = 0,
    cpus: float,
    gpus: float,
    name: str,
    storage_path: str,
) -> ReportedResult[T]:
    """The result of the first of `num_workers` processes, which all call `compute` together, and its warnings.

    Raises what a worker raised; a worker that is lost has all of them start again, with min_workers as many as there is
    room for.
    """
    is_elastic = 0 < min_workers < num_workers
    connection.check_fits(num_workers=min_workers if is_elastic else num_workers, cpus=cpus, gpus=gpus)
    # Ray Train moves workers into its own folder; a relative data or cache path would break there.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    trainer: Any = ray.train.torch.TorchTrainer(
        _work,  # Train V2 hands on what it returns
        train_loop_config={"compute": compute},
        scaling_config=_scaling((min_workers, num_workers) if is_elastic else num_workers, cpus, gpus),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage_path,
            failure_config=ray.train.FailureConfig(
                max_failures=MAX_LOSSES_ELASTIC if is_elastic else MAX_LOSSES
            ),
        ),
    )
    with signals_interrupt():
        return returned(trainer.fit())


def _scaling(num_workers: int | tuple[int, int], cpus: float, gpus: float) -> Any:
    config: Any = ray.train.ScalingConfig  # Train V2's, whose types are V1's
    return config(
        num_workers=num_workers,
        elastic_resize_monitor_interval_s=RESIZE_S,
        use_gpu=gpus > 0,
        resources_per_worker={"CPU": cpus} | ({"GPU": gpus} if gpus else {}),
    )


def _work(config: dict[str, Any]) -> Any:
    context = ray.train.get_context()
    group = ProcessGroup(rank=context.get_world_rank(), size=context.get_world_size())
    return reporting(config["compute"], group)
