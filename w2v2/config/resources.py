"""Settings of the resources of a job: its workers, and the CPUs and GPUs of each; the same names in every job."""

from dataclasses import dataclass
from typing import Literal

from w2v2.config.checks import at_least
from w2v2.errors import UserError

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingResources:
    """The number of processes that train one model together, and the resources of each."""

    num_workers: int = 1
    """Processes that train one model by DDP under Ray Train, each with its share of every batch; a search trains every
    fold so. The default is 1, whatever the cluster has, as results of more differ by rounding; in jobs that do not train
    num_workers is by default 0, automatic."""
    min_workers: int = 0
    """finetune, pretrain: the fewest processes to train on while machines come and go. The training continues with as
    many as there is room for, up to num_workers, each time from its newest checkpoint; 0 waits for num_workers."""
    cpus_per_worker: float = 1.0
    """CPUs (and threads) of one worker."""
    gpus_per_worker: float = 1.0
    """GPUs of one worker, fractions allowed; a cluster without GPUs trains on CPUs."""
    precision: Precision = "float32"
    """bf16 computes in bfloat16 on a GPU and is refused on a CPU, where it is many times slower."""

    def __post_init__(self) -> None:
        at_least("resources", self, 1, "num_workers")
        at_least("resources", self, 0, "gpus_per_worker", "min_workers")
        if self.min_workers > self.num_workers:
            raise UserError(
                f"resources.min_workers must be at most resources.num_workers={self.num_workers}, got {self.min_workers}"
            )
        if not self.cpus_per_worker > 0:
            raise UserError(f"resources.cpus_per_worker must be positive, got {self.cpus_per_worker}")


@dataclass(frozen=True, kw_only=True)
class InferenceResources:
    """The number of workers that compute at once, and the resources of each."""

    num_workers: int = 0
    """Workers that compute at once. The default is 0, automatic: as many as the cluster's GPUs, or without any its CPUs,
    allow. In jobs that train a model num_workers is by default 1."""
    cpus_per_worker: float = 1.0
    """CPUs (and threads) of a worker on a cluster without GPUs."""
    gpus_per_worker: float = 1.0
    """GPUs of a worker, fractions allowed; a cluster without GPUs computes on CPUs."""
    clips_per_part: int = 0
    """Clips whose results are written at once, and at most lost when a worker dies; 0 chooses."""

    def __post_init__(self) -> None:
        at_least("resources", self, 0, "num_workers", "clips_per_part")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if not getattr(self, name) > 0:
                raise UserError(f"resources.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ExtractionResources(InferenceResources):
    """The number of encoders that compute at once, and the resources and precision of each."""

    precision: Precision = "float32"
    """bf16 computes in bfloat16 on a GPU, faster and with about two digits; it is refused on a CPU."""
