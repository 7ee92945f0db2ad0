"""What the end of a search says of the choice among its trials."""

import optuna
import pytest

from w2v2.outcome import score_lines, selection_of

STATES = {"C": optuna.trial.TrialState.COMPLETE, "P": optuna.trial.TrialState.PRUNED}


def lines(states, nested, heard=None):
    trials = [
        optuna.trial.create_trial(state=STATES[state], value=0.5 if state == "C" else None)
        for state in states
    ]
    selection = selection_of(trials, trials[0], nested)
    pooled = {"uar": 0.5, "accuracy": 0.5, "macro_f1": None, "never_predicted": ["calm"]}
    pooled["intervals"] = {"uar": [0.4, 0.6], "accuracy": [0.4, 0.6], "macro_f1": None}
    folds = {name: {"mean": 0.5, "std": None} for name in ("uar", "accuracy", "macro_f1")}
    metrics = {"pooled": pooled, "folds": folds, "selection": selection, "trial": 0, "chance_uar": 0.125}
    metrics["encoder"] = {} if heard is None else {"heard": heard}
    return score_lines(metrics | {"params": {"optim.learning_rate": 1e-4}}), selection["note"]


@pytest.mark.parametrize(
    "states, nested, said, note",
    [
        ("C", None, "; there is one trial, so these folds have chosen nothing\n", "one trial: nothing was chosen"),
        ("CPP", None, "; the best of 3 is optimistic, by how much cannot be told from one complete trial\n",
         "the best of 3 trials is an optimistic estimate; one is complete"),
        ("CCP", 0.4567, "; the best of 3 is optimistic: with each fold's trial chosen on the other folds it is 0.457\n",
         "the best of 3 trials is an optimistic estimate: the same folds chose it and score it"),
    ],
)  # fmt: skip
def test_how_much_the_choice_among_trials_flatters(states, nested, said, note):
    text, found = lines(states, nested)
    assert said in text and found.startswith(note)


def test_a_score_without_a_value_is_undefined():
    text, _ = lines("C", None)
    table = [line.split() for line in text.splitlines()]
    assert ["macro_f1", "undefined", "undefined", "0.500", "undefined"] in table
    assert ["uar", "0.500", "[0.400,", "0.600]", "0.500", "undefined"] in table
    assert "never predicted: calm" in text


@pytest.mark.parametrize(("heard", "told"), [(None, False), ("", False), ("3 of the speakers", True)])
def test_an_encoder_that_was_made_from_what_is_scored_is_told(heard, told):
    text, _ = lines("CC", 0.4, heard)
    words = "but 3 of the speakers TRAINED THE ENCODER, so this is no score of unseen speakers"
    assert (words in text) == told
