"""A pre-training (training/pretraining.py) in this process, or on Ray's workers: one as a task, several under Ray Train."""

import functools
from collections.abc import Callable

from w2v2.cluster.workers import ThisProcess, Workers
from w2v2.training.pretraining import Pretrained, PretrainPlan, epoch_log, pretrain
from w2v2.training.process_group import ProcessGroup


def pretrain_on(workers: Workers, plan: PretrainPlan, *, gpus: float) -> Pretrained:
    """What `pretrain` returns, computed by `config.resources.num_workers` processes with `gpus` GPUs each.

    Logs each epoch here. Raises UserError where `pretrain` does.
    """
    if isinstance(workers, ThisProcess):
        return pretrain(plan, on_epoch=epoch_log(plan.config.training.num_epochs))
    from w2v2.cluster.ddp import train_on_workers

    return train_on_workers(
        functools.partial(_work, plan),
        report=epoch_log(plan.config.training.num_epochs),
        num_workers=plan.config.resources.num_workers,
        cpus=plan.config.resources.cpus_per_worker,
        gpus=gpus,
        name="pretrain",
    )


def _work(plan: PretrainPlan, world: ProcessGroup, report: Callable[..., None]) -> Pretrained:
    """Pre-train in this process, alone or as one of several; runs on a worker."""
    return pretrain(plan, world=world, on_epoch=report)
