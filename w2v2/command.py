"""The command `w2v2`: one job by its name, with the same code, flags and run directories as jobs/<name>.py."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from w2v2.process_end import end_process
from w2v2.versions import W2V2

JOBS = {
    "tune-folds": "search hyperparameters, scored by cross-validation over folds of unseen speakers",
    "finetune": "train one model and score it once on unseen speakers",
    "evaluate": "score a saved model on other data with labels",
    "predict": "write what a saved model predicts for recordings",
    "export": "write a saved model as an ONNX graph, compared with the model before it is kept",
    "extract-embeddings": "write one vector per clip into a table, exactly once",
    "baseline": "score a support vector machine on hand-made features over the same folds",
    "compare": "compare finished runs over the same clips: which differences are more than chance",
    "pretrain": "pre-train an encoder on audio without labels",
    "benchmark": "compare this package with the usual tools on this machine",
}
"""The purpose of each job, in a line."""


def main(args: Sequence[str] | None = None) -> int:
    """The exit code of `w2v2 JOB ...`: the job's; 0 for the list of jobs, 2 for the name of no job."""
    words = list(sys.argv[1:] if args is None else args)
    match words:
        case [] | ["-h" | "--help" | "help"]:
            print(overview())
            return 0
        case ["--version"]:
            print(W2V2)
            return 0
    name = words[0].replace("_", "-")
    if name not in JOBS:
        near = difflib.get_close_matches(name, JOBS, n=1)
        guess = f", did you mean {near[0]}" if near else ""
        print(f"error: there is no job {words[0]}{guess}; the jobs are {', '.join(JOBS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"w2v2.jobs.{name.replace('-', '_')}")
    code: int = module.run(words[1:])
    return code


def run() -> NoReturn:
    """The command of this process's arguments, and the end of the process with its exit code."""
    end_process(main())


def overview() -> str:
    """The list of jobs, a line for each."""
    width = max(map(len, JOBS))
    lines = [f"  w2v2 {name:<{width}}  {summary}" for name, summary in JOBS.items()]
    start = "  w2v2 tune-folds               # the built-in corpus, no download: a few minutes"
    more = "  w2v2 JOB --help               # a job's most important flags; --help all lists every setting"
    return "\n".join(["Batch jobs for speech models.", "", *lines, "", start, more])
