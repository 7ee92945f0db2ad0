"""One training in this process, or on Ray's workers: one process as a task, several under Ray Train."""

from collections.abc import Callable
from typing import TypeVar

from w2v2.cluster.workers import ThisProcess, Workers
from w2v2.config.resources import TrainingResources
from w2v2.training.process_group import ProcessGroup

T = TypeVar("T")


def train_on(
    workers: Workers,
    work: Callable[[ProcessGroup, Callable[..., None]], T],
    *,
    resources: TrainingResources,
    gpus: float,
    report: Callable[..., None],
    name: str,
) -> T:
    """The result of `work` in the first of `resources.num_workers` processes with `gpus` GPUs each.

    Each process calls work(process_group, report); its reports reach `report` in this process. Raises UserError
    where `work` does.
    """
    if isinstance(workers, ThisProcess):
        return work(ProcessGroup(), report)
    from w2v2.cluster.ddp import train_on_workers

    return train_on_workers(
        work,
        report=report,
        num_workers=resources.num_workers,
        min_workers=resources.min_workers,
        cpus=resources.cpus_per_worker,
        gpus=gpus,
        name=name,
    )
