"""A fine-tuning (training/finetuning.py) in this process or on Ray's workers."""

import functools
from collections.abc import Callable

from w2v2.cluster.training import train_on
from w2v2.cluster.workers import Workers
from w2v2.models.ensemble import member_name
from w2v2.training.finetune_plan import FinetunePlan
from w2v2.training.finetuning import FinetuneResult, epoch_log, finetune
from w2v2.training.process_group import ProcessGroup


def finetune_on(workers: Workers, plan: FinetunePlan, *, gpus: float) -> FinetuneResult:
    """The result of `finetune`, computed by `config.resources.num_workers` processes with `gpus` GPUs each.

    Logs each epoch in this process. Raises UserError where `finetune` does.
    """
    member = "" if plan.config.ensemble == "none" else f"/{member_name(plan.member)}"
    return train_on(
        workers,
        functools.partial(_work, plan),
        resources=plan.config.resources,
        gpus=gpus,
        report=epoch_log(plan.config.training.num_epochs, group=f"training{member}"),
        name="finetune",
    )


def _work(plan: FinetunePlan, group: ProcessGroup, report: Callable[..., None]) -> FinetuneResult:
    """Fine-tune in this process, alone or as one of several; runs on a worker."""
    return finetune(plan, group=group, on_epoch=report)
