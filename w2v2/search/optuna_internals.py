"""Internals of Optuna that may change in any version; tests/test_internals.py reports what a new one has changed."""

import optuna


def running_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
    """A trial that an earlier process left running, in a form to which this process can report."""
    return optuna.Trial(study, trial._trial_id)


def as_stored(trial: optuna.Trial) -> optuna.trial.FrozenTrial:
    """One trial as the study's file has it; Optuna's own functions would read all trials."""
    return trial.storage.get_trial(trial._trial_id)
