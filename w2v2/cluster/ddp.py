"""A training on several workers: Ray Train, PyTorch DDP, every worker with its share of every batch."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from w2v2.cluster.ray_internals import ctrl_c_interrupts

# isort: split

import ray.train
import ray.train.torch

from w2v2.training.process_group import ProcessGroup

T = TypeVar("T")


def work_together(
    compute: Callable[[ProcessGroup], T],
    *,
    num_workers: int,
    cpus: float,
    gpus: float,
    name: str,
    storage_path: str,
) -> T:
    """What the first of `num_workers` processes found, all of which call `compute` together.

    Raises what a worker raised; a worker that is lost has all of them start again.
    """
    # Ray Train moves workers into its own folder; a relative data or cache path would break there.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    trainer: Any = ray.train.torch.TorchTrainer(
        _work,  # Train V2 hands on what it returns
        train_loop_config={"compute": compute},
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": cpus} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name, storage_path=storage_path, failure_config=ray.train.FailureConfig(max_failures=2)
        ),
    )
    with ctrl_c_interrupts():
        return trainer.fit().return_value  # what rank 0 returned


def _work(config: dict[str, Any]) -> Any:
    context = ray.train.get_context()
    return config["compute"](ProcessGroup(rank=context.get_world_rank(), size=context.get_world_size()))
