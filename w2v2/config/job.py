"""Settings that every job on recordings has."""

from dataclasses import dataclass, field
from operator import attrgetter
from typing import ClassVar, Literal

from w2v2.config.data import DataConfig
from w2v2.errors import UserError

RESUMABLE_IN_EVERY_JOB = ("local", "data.max_reject_fraction", "data.num_readers", "cache.uri")
"""Settings that change no result of any job, so a run may be continued with others."""


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """Settings of every job with clips: the data, the place of the computation, and whether it only plans."""

    RESUMABLE: ClassVar[tuple[str, ...]] = ()
    """Settings that do not change what is computed, so a run may be continued with others."""
    run: str
    """The run directory, local or gs://."""
    local: bool | Literal["auto"] = "auto"
    """true: all work is done in this process, one thing after the other, without Ray: for small data, a debugger, or a
    machine on which Ray does not run. The numbers are those of one worker, in a search of one trial at a time. false: on
    Ray's workers. auto: as true for up to 500 clips, where one worker is asked for (in a search: where heads alone are
    trained) and no Ray cluster runs on this machine."""
    plan: bool = False
    """Only report what would be read, used, rejected, computed and written, and at what cost; nothing is written but the clips
    as they were understood, to <run>/clips.csv, which --data.layout csv reads back."""
    data: DataConfig = field(default_factory=DataConfig)

    @property
    def resumable(self) -> tuple[str, ...]:
        """Paths of the settings that may differ when a run is continued."""
        return self.RESUMABLE

    def alone_if_local(self, path: str) -> None:
        """Raises UserError where all work is to be done in one process, and this field asks for more than one."""
        number = attrgetter(path)(self)
        if self.local is True and number > 1:
            raise UserError(
                f"local=true does all work in one process, one thing after the other, got {path}={number}: leave out one "
                "of the two"
            )


@dataclass(frozen=True, kw_only=True)
class TrackedJobConfig(JobConfig):
    """A job that may report to an experiment tracker as well."""

    track: Literal["none", "mlflow", "wandb"] = "none"
    """Report settings, learning curves and scores to MLflow or Weights & Biases as well, where their own environment
    variables (MLFLOW_TRACKING_URI, WANDB_API_KEY, ...) say; without these, on this machine. Whatever a tracker does, the job
    continues."""
