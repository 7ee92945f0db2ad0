"""A pre-training (training/pretraining.py) on Ray's workers: one as a task, several under Ray Train."""

import functools

from w2v2.cluster.ddp import Report, train_on_workers
from w2v2.training.pretraining import Pretrained, PretrainPlan, epoch_log, pretrain
from w2v2.training.process_group import ProcessGroup


def pretrain_on_ray(plan: PretrainPlan, *, gpus: float) -> Pretrained:
    """What `pretrain` returns, computed by `config.workers` processes with `gpus` GPUs each.

    Logs each epoch here. Raises UserError where `pretrain` does.
    """
    return train_on_workers(
        functools.partial(_work, plan),
        report=epoch_log(plan.config.training.num_epochs),
        num_workers=plan.config.workers,
        cpus=plan.config.cpus_per_worker,
        gpus=gpus,
        name="pretrain",
    )


def _work(plan: PretrainPlan, world: ProcessGroup, report: Report) -> Pretrained:
    """Pre-train in this process, alone or as one of several; runs on a worker."""
    return pretrain(plan, world=world, on_epoch=report)
