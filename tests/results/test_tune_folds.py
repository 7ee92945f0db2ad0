"""What the end of a search says of the choice among its trials."""

from types import SimpleNamespace

import optuna
import pyarrow as pa
import pytest

from jobs import tune_folds
from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.models import provenance
from w2v2.results import tune_folds as outcome
from w2v2.results.tune_folds import score_lines, selection_of
from w2v2.search.space import variants

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


@pytest.mark.parametrize("best", ["fresh", "tuned"])
def test_where_encoders_are_searched_over_the_best_trials_own_is_told(tmp_path, best):
    clips = pa.table({"speaker": ["ann", "bob"], "audio_digest": ["1", "2"]})
    names = {name: str(tmp_path / name) for name in ("fresh", "tuned")}
    provenance.write(names["tuned"], clips.slice(0, 1), encoder="tiny")
    space = {"encoder.name": Dimension(choices=tuple(names.values()))}
    config = TuneFoldsConfig(encoder=EncoderConfig(name=names["fresh"]), search=SearchConfig(space=space))
    encoders = variants(config.encoder, space)
    infos = [SimpleNamespace(digest=f"digest of {e.name}", cut="conv") for e in encoders]
    told = tune_folds.encoders_told(SimpleNamespace(encoders=encoders, infos=infos), clips)
    trial = optuna.trial.create_trial(
        value=0.5,
        params={"encoder.name": names[best]},
        distributions={"encoder.name": optuna.distributions.CategoricalDistribution(list(names.values()))},
    )
    found = outcome._encoder(config, trial, told)
    assert (found["name"], found["digest"]) == (names[best], f"digest of {names[best]}")
    assert ("1 of the" in provenance.caveat(found)) == (best == "tuned")
