"""Pre-trainings (training/pretraining.py) in this process, or on Ray's workers: one process as a task, several under Ray Train."""

import functools
from collections.abc import Callable, Sequence

from w2v2.cluster.training import train_on
from w2v2.cluster.workers import ThisProcess, Workers
from w2v2.training.pretraining import NAME, PretrainPlan, PretrainResult, epoch_log, pretrain
from w2v2.training.process_group import ProcessGroup


def pretrain_on(workers: Workers, plan: PretrainPlan, *, gpus: float, name: str = NAME) -> PretrainResult:
    """The result of `pretrain`, computed by `config.resources.num_workers` processes with `gpus` GPUs each.

    Logs each epoch in this process, under this name. Raises UserError where `pretrain` does.
    """
    return train_on(
        workers,
        functools.partial(_work, plan),
        resources=plan.config.resources,
        gpus=gpus,
        report=epoch_log(plan.config.training.num_epochs, name=name),
        name="pretrain",
    )


def pretrain_each_on(
    workers: Workers,
    plans: Sequence[PretrainPlan],
    *,
    gpus: float,
    on_done: Callable[[int, PretrainResult], None],
) -> None:
    """Pre-train an encoder for each fold, by the plans in the order of the folds; on_done(fold, result of `pretrain`).

    Trainings with one process run side by side if there is room, trainings with several processes one after another.
    Raises UserError where `pretrain` does.
    """
    config = plans[0].config
    names = [f"pre-training without fold {fold}" for fold in range(len(plans))]
    if isinstance(workers, ThisProcess) or config.resources.num_workers > 1:
        for fold, plan in enumerate(plans):
            on_done(fold, pretrain_on(workers, plan, gpus=gpus, name=names[fold]))
        return
    from w2v2.cluster.ddp import train_each

    logs = [epoch_log(config.training.num_epochs, name=name) for name in names]
    train_each(
        [functools.partial(_work_on_fold, fold, plan) for fold, plan in enumerate(plans)],
        report=lambda fold, *values: logs[fold](*values),
        cpus=config.resources.cpus_per_worker,
        gpus=gpus,
        on_done=on_done,
    )


def _work(plan: PretrainPlan, group: ProcessGroup, report: Callable[..., None]) -> PretrainResult:
    """Pre-train in this process, alone or as one of several; runs on a worker."""
    return pretrain(plan, group=group, on_epoch=report)


def _work_on_fold(
    fold: int, plan: PretrainPlan, group: ProcessGroup, report: Callable[..., None]
) -> PretrainResult:
    """Pre-train in this process, with reports that name the fold; runs on a worker."""

    def of_fold(*values: object) -> None:
        report(fold, *values)

    return pretrain(plan, group=group, on_epoch=of_fold)
