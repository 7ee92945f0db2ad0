"""Settings of `w2v2 compare`."""

from dataclasses import dataclass

from w2v2.errors import UserError
from w2v2.job_commands import command_of


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare finished runs over the same clips: differences with intervals, a ranking, wins and losses by speaker."""

    runs: tuple[str, ...] = ()
    """Run directories of tune-folds, baseline, evaluate or finetune, local or gs://; on the
    command line also without a flag, in front of all flags."""
    run: str = "runs/compare"
    """The directory that the comparison is written to, local or gs://."""
    metric: str = ""
    """The metric that ranks the runs; empty is uar for classes, macro_auc for labels and ccc for values."""
    seed: int = 0
    """Seed of the bootstrap."""
    plan: bool = False
    """Only report which runs would be compared, by what and over which clips; nothing is written."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise UserError(
                f"at least two runs are compared, got {len(self.runs)}: give their directories, as in "
                f"{command_of('compare')} runs/a runs/b"
            )
