"""Compare finished runs over the same clips: which differences are more than chance.

    w2v2 compare runs/base runs/large runs/svm
    w2v2 compare gs://bucket/runs/a gs://bucket/runs/b --metric macro_f1 --run gs://bucket/runs/a-or-b

Reads   run directories of tune-folds, baseline, evaluate or finetune (its test split); a search by its fold
        records, so that the choice among its trials does not favour it.
Writes  <run>/config.yaml metrics.json report.html plots/ tables/
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from w2v2.config import command_line
from w2v2.config.compare import CompareConfig
from w2v2.config.guide import Guide
from w2v2.json_types import Json
from w2v2.kept_warnings import warnings_kept
from w2v2.results.compare import compare_runs, plan_comparison
from w2v2.storage import files as storage

logger = logging.getLogger("w2v2.jobs.compare")

GUIDE = Guide(
    command="compare",
    summary="Compare finished runs over the same clips: which differences are more than chance.",
    usage="RUN RUN ... ",
    flags={
        "metric": "the metric that ranks the runs; empty chooses it by the task",
        "seed": "seed of the bootstrap",
        "plan": "true: only report what would be compared",
        "run": "the directory that the comparison is written to",
    },
    examples=(
        "w2v2 compare runs/base runs/large runs/svm",
        "w2v2 compare gs://bucket/runs/a gs://bucket/runs/b --metric macro_f1 --run gs://bucket/runs/a-or-b",
    ),
)


@warnings_kept()
def main(config: CompareConfig) -> dict[str, Json]:
    """The comparison, after everything has been written to the run directory."""
    config = replace(config, run=storage.expand(config.run), runs=tuple(map(storage.expand, config.runs)))
    if config.plan:
        return plan_comparison(config)
    logger.info("run: %s", config.run)
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    return compare_runs(config)


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, CompareConfig, args, words="runs", guide=GUIDE)
