"""A fine-tuning (training/finetuning.py) on Ray's workers: one as a task, several under Ray Train."""

import functools
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.util.queue import Queue

from w2v2.cluster import connection
from w2v2.cluster.ddp import work_together
from w2v2.training.finetuning import Finetuned, FinetunePlan, OnEpoch, epoch_log, finetune
from w2v2.training.process_group import ProcessGroup


def finetune_on_ray(plan: FinetunePlan, *, gpus: float) -> Finetuned:
    """What `finetune` returns, computed by `config.workers` processes with `gpus` GPUs each.

    Logs each epoch here. Raises UserError where `finetune` does.
    """
    config = plan.config
    with _queue_into(epoch_log(config.training.num_epochs)) as queue:
        try:
            if config.workers == 1:  # on a worker that has loaded the encoder already
                task = connection.task(_work, cpus=config.cpus_per_worker, gpus=gpus)
                return ray.get(task.remote(plan, queue, ProcessGroup()))
            with tempfile.TemporaryDirectory(prefix="w2v2-train-") as scratch:
                return work_together(
                    functools.partial(_work, plan, queue),
                    num_workers=config.workers,
                    cpus=config.cpus_per_worker,
                    gpus=gpus,
                    name="finetune",
                    storage_path=scratch,
                )
        except Exception as error:
            raise connection.user_error(error) or error from error


def _work(plan: FinetunePlan, queue: Queue, world: ProcessGroup) -> Finetuned:
    """Fine-tune in this process, alone or as one of several; runs on a worker."""
    return finetune(plan, world=world, on_epoch=lambda *epoch: queue.put(epoch))


@contextmanager
def _queue_into(on_epoch: OnEpoch) -> Iterator[Queue]:
    """A queue for workers; what they put into it reaches `on_epoch` in this process."""
    queue = Queue(actor_options={"num_cpus": 0})

    def listen() -> None:
        while (epoch := queue.get()) is not None:
            on_epoch(*epoch)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield queue
    finally:
        queue.put(None)
        listener.join(timeout=10)
        queue.shutdown()
