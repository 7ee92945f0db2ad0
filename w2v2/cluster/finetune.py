"""A fine-tuning (training/finetuning.py) in this process, or on Ray's workers: one as a task, several under Ray Train."""

import functools
from collections.abc import Callable

from w2v2.cluster.workers import ThisProcess, Workers
from w2v2.training.finetuning import Finetuned, FinetunePlan, epoch_log, finetune
from w2v2.training.process_group import ProcessGroup


def finetune_on(workers: Workers, plan: FinetunePlan, *, gpus: float) -> Finetuned:
    """What `finetune` returns, computed by `config.resources.num_workers` processes with `gpus` GPUs each.

    Logs each epoch here. Raises UserError where `finetune` does.
    """
    if isinstance(workers, ThisProcess):
        return finetune(plan, on_epoch=epoch_log(plan.config.training.num_epochs))
    from w2v2.cluster.ddp import train_on_workers

    return train_on_workers(
        functools.partial(_work, plan),
        report=epoch_log(plan.config.training.num_epochs),
        num_workers=plan.config.resources.num_workers,
        cpus=plan.config.resources.cpus_per_worker,
        gpus=gpus,
        name="finetune",
    )


def _work(plan: FinetunePlan, world: ProcessGroup, report: Callable[..., None]) -> Finetuned:
    """Fine-tune in this process, alone or as one of several; runs on a worker."""
    return finetune(plan, world=world, on_epoch=report)
