"""A fine-tuning (training/finetuning.py) on Ray's workers: one as a task, several under Ray Train."""

import functools

from w2v2.cluster.ddp import Report, train_on_workers
from w2v2.training.finetuning import Finetuned, FinetunePlan, epoch_log, finetune
from w2v2.training.process_group import ProcessGroup


def finetune_on_ray(plan: FinetunePlan, *, gpus: float) -> Finetuned:
    """What `finetune` returns, computed by `config.workers` processes with `gpus` GPUs each.

    Logs each epoch here. Raises UserError where `finetune` does.
    """
    return train_on_workers(
        functools.partial(_work, plan),
        report=epoch_log(plan.config.training.num_epochs),
        num_workers=plan.config.workers,
        cpus=plan.config.cpus_per_worker,
        gpus=gpus,
        name="finetune",
    )


def _work(plan: FinetunePlan, world: ProcessGroup, report: Report) -> Finetuned:
    """Fine-tune in this process, alone or as one of several; runs on a worker."""
    return finetune(plan, world=world, on_epoch=report)
