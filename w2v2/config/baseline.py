"""Settings of `w2v2 baseline`."""

from dataclasses import dataclass, field

from w2v2.config.checks import at_least
from w2v2.config.data import AudioConfig, CacheConfig, Descriptor, FoldsConfig
from w2v2.config.job import RESUMABLE_IN_EVERY_JOB, JobConfig
from w2v2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SvmConfig:
    """A support vector machine with RBF kernel on hand-made features."""

    features: tuple[Descriptor, ...] = ("mfcc",)
    """Hand-made features of the whole clip (egemaps needs opensmile installed)."""
    c: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    """Grid: how much a clip on the wrong side of the margin costs."""
    gamma: tuple[float, ...] = (0.0, 0.001, 0.01, 0.1)
    """Grid: width of the kernel; 0 is one over the number of features times their variance."""
    num_inner_folds: int = 4
    """Folds, by speaker, among the training clips that choose from the grid."""

    def __post_init__(self) -> None:
        at_least("svm", self, 2, "num_inner_folds")
        if not self.features or not self.c or not self.gamma:
            raise UserError("svm.features, svm.c and svm.gamma must each have a value")
        if min(self.c) <= 0 or min(self.gamma) < 0:
            raise UserError(f"svm.c must be positive and svm.gamma 0 or more, got {self.c} and {self.gamma}")


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(JobConfig):
    """Score a support vector machine on hand-made features over the same folds as `w2v2 tune-folds`."""

    RESUMABLE = (
        *RESUMABLE_IN_EVERY_JOB,
        "data.slice_columns",
    )
    run: str = "runs/baseline"
    """The run directory, local or gs://."""
    local: bool = False
    """All work is done in this process, one thing after the other, without Ray: for small data, a debugger, or a
    machine on which Ray does not run. The numbers are those of one worker."""
    seed: int = 0
    """Seed of the bootstrap."""
    audio: AudioConfig = field(default_factory=AudioConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    svm: SvmConfig = field(default_factory=SvmConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
