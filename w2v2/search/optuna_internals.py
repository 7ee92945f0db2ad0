"""What Optuna does not promise from one version to the next; tests/test_internals.py says what a new one has changed."""

import optuna


def running_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
    """A trial that an earlier process left running, as one that this process can report to."""
    return optuna.Trial(study, trial._trial_id)
