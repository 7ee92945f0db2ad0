#!/usr/bin/env python
"""A search by Ray Tune, each trial all folds by Hugging Face's Trainer: the peer of `w2v2 benchmark commands`.

    jobs/peers/search_with_tune.py work.pickle folds.pickle

work.pickle holds the arguments of w2v2.benchmarks.transformers_trainer.search_with_trainer, folds.pickle what it returns.
"""

import logging
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import tune


def train_trial(params: dict[str, Any], work: tuple, folder: str) -> None:
    """Train and score all folds of one trial."""
    from w2v2.benchmarks.transformers_trainer import trial_with_trainer

    config, encoder_folder, encoder, trials, clips = work
    trial = params["trial"]
    folds = trial_with_trainer(config, encoder_folder, encoder, trial, trials[trial], clips)
    Path(folder, f"{trial}.pickle").write_bytes(pickle.dumps(folds))
    tune.report({"uar": sum(fold.uar for fold in folds) / len(folds)})


def main(work_file: str, folds_file: str) -> None:
    """Run all trials, one at a time on all threads."""
    work = pickle.loads(Path(work_file).read_bytes())
    config, trials = work[0], work[3]
    ray.init(
        num_cpus=config.threads, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    with tempfile.TemporaryDirectory(prefix="w2v2-tune-") as scratch:
        trainable = tune.with_parameters(train_trial, work=work, folder=scratch)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": config.threads}),
            param_space={"trial": tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(metric="uar", mode="max"),
            run_config=tune.RunConfig(storage_path=f"{scratch}/results", verbose=0),
        )
        grid = tuner.fit()
        failed = [str(grid[number].error) for number in range(len(grid)) if grid[number].error]
        if failed:
            sys.exit(f"a trial failed: {failed[0]}")
        made = [pickle.loads(Path(scratch, f"{trial}.pickle").read_bytes()) for trial in range(len(trials))]
    Path(folds_file).write_bytes(pickle.dumps([fold for folds in made for fold in folds]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
