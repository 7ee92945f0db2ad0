"""The command of a job in messages and on pages, as its reader would type it."""

import os
import shlex
import sys
from pathlib import Path

RAY_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable for the command that `ray job submit` runs."""


def command_of(job: str) -> str:
    """The words that start a job of this name (tune_folds) in the way in which this process was started.

    `python jobs/tune_folds.py` where the script of a job runs, else `w2v2 tune-folds`, also in a notebook and on a worker of
    Ray; after `ray job submit --working-dir . --` where that has submitted the job.
    """
    words = _words(job, Path(sys.argv[0]))
    return f"ray job submit --working-dir . -- {words}" if RAY_JOB_VARIABLE in os.environ else words


def _words(job: str, program: Path) -> str:
    name = job.replace("_", "-")
    if program.suffix == ".py" and program.resolve().parent.name == "jobs":
        return f"python {shlex.quote(str(program.with_name(f'{job}.py')))}"
    if program.parts[-2:] == ("w2v2", "__main__.py"):
        return f"python -m w2v2 {name}"
    return f"w2v2 {name}"
