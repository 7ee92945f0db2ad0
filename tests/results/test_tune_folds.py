"""What the end of a search says of the choice among its trials."""

import optuna
import pyarrow as pa
import pytest
import yaml

from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.features.encoder_info import EncoderInfo
from w2v2.models import provenance
from w2v2.results import tune_folds as outcome
from w2v2.results.search_score_lines import score_lines
from w2v2.results.tune_folds import selection_of
from w2v2.search.prepared_search import PreparedSearch
from w2v2.search.space import variants

STATES = {"C": optuna.trial.TrialState.COMPLETE, "P": optuna.trial.TrialState.PRUNED}


def encoder_info(*, digest):
    sizes = {"num_layers": 2, "num_parameters": 1000, "kernels": (10,), "strides": (5,), "vector_size": 0}
    return EncoderInfo(digest=digest, cut="conv", key="conv-1", **sizes)


def estimate_of(value, *, name="BBC-CV"):
    nothing = {"value": None, "low": None, "high": None, "undefined": "no clip defines the score"}
    defined = nothing | {"value": value, "low": 0.4, "high": 0.6, "undefined": ""}
    few = defined | {"low": None, "high": None, "undefined": "4 speakers"}
    metrics = {"uar": defined, "accuracy": few, "macro_f1": nothing}
    optimism = {"uar": 0.5 - value, "accuracy": 0.5 - value, "macro_f1": None}
    sizes = {"num_speakers": 24, "num_folds": 6, "num_trials": 2}
    return {"name": name, "metric": "uar", "metrics": metrics, "optimism": optimism} | sizes


def lines(states, value=0.487, seen=None):
    trials = [
        optuna.trial.create_trial(state=STATES[state], value=0.5 if state == "C" else None)
        for state in states
    ]
    selection = selection_of(trials, best=0.5, nested=None)
    pooled = {"uar": 0.5, "accuracy": 0.5, "macro_f1": None, "never_predicted": ["calm"]}
    folds = {name: {"mean": 0.5, "std": None} for name in ("uar", "accuracy", "macro_f1")}
    metrics = {"pooled": pooled, "folds": folds, "selection": selection, "trial": 0, "chance_uar": 0.125}
    metrics |= {"estimate": estimate_of(value)}
    metrics["encoder"] = {} if seen is None else {"seen_in_training": seen}
    return score_lines(metrics | {"params": {"optim.learning_rate": 1e-4}}), selection["note"]


@pytest.mark.parametrize(
    "states, sentence, note",
    [
        ("C", "; there is one trial, so these folds have chosen nothing\n", "one trial: nothing was chosen"),
        ("CPP", "; one trial is complete, so how much being chosen flatters it is unknown\n",
         "the best of 3 trials is an optimistic estimate, and as one is complete"),
        ("CCP", "; being chosen flatters the best of 3 by 1.3 points of uar\n",
         "the best of 3 trials is an optimistic estimate: the same folds chose it and score it"),
    ],
)  # fmt: skip
def test_how_much_the_choice_among_trials_flatters(states, sentence, note):
    text, metrics = lines(states)
    assert sentence in text and metrics.startswith(note)


def test_the_estimate_is_the_first_number_and_what_is_undefined_says_why():
    text, _ = lines("CC")
    table = [line.split() for line in text.splitlines()]
    assert ["uar", "0.487", "[0.400,", "0.600]", "0.500", "0.500", "undefined"] in table
    assert ["accuracy", "0.487", "undefined,", "4", "speakers", "0.500", "0.500", "undefined"] in table
    assert table[1][:6] == ["scores", "to", "expect", "on", "new", "speakers:"]
    assert "BBC-CV, 24 speakers in 6 folds" in text and "never predicted: calm" in text
    assert text.index("0.487") < text.index("0.500")


def test_the_best_settings_carry_what_they_are_worth_in_a_comment():
    config = TuneFoldsConfig()
    text = outcome.best_config(config, {"optim.learning_rate": 0.5}, estimate_of(0.487))
    assert text.startswith("# uar on new speakers: 0.487 [0.400, 0.600] (BBC-CV)\n")
    assert yaml.safe_load(text)["optim"]["learning_rate"] == 0.5
    assert yaml.safe_load(text)["tuned_on"] == config.run


@pytest.mark.parametrize(
    ("seen", "is_reported"), [(None, False), ("", False), ("3 of the clips TRAINED THE ENCODER", True)]
)
def test_an_encoder_that_was_made_from_what_is_scored_is_reported(seen, is_reported):
    text, _ = lines("CC", seen=seen)
    words = "but 3 of the clips TRAINED THE ENCODER"
    assert (words in text) == is_reported


@pytest.mark.parametrize("best", ["fresh", "tuned"])
def test_where_encoders_are_searched_over_the_best_trials_own_is_reported(tmp_path, best):
    clips = pa.table({"speaker": ["ann", "bob"], "audio_digest": ["1", "2"]})
    names = {name: str(tmp_path / name) for name in ("fresh", "tuned")}
    provenance.write(names["tuned"], clips.slice(0, 1), encoder="tiny")
    space = {"encoder.name": Dimension(choices=tuple(names.values()))}
    config = TuneFoldsConfig(encoder=EncoderConfig(name=names["fresh"]), search=SearchConfig(space=space))
    encoders = variants(config.encoder, space)
    infos = [encoder_info(digest=f"digest of {e.name}") for e in encoders]
    prepared = PreparedSearch(infos=dict(zip(encoders, infos, strict=True)), features=[], gpus=0.0)
    entries = prepared.encoder_entries(clips)
    trial = optuna.trial.create_trial(
        value=0.5,
        params={"encoder.name": names[best]},
        distributions={"encoder.name": optuna.distributions.CategoricalDistribution(list(names.values()))},
    )
    entry = outcome._encoder(config, trial, entries)
    assert (entry["name"], entry["digest"]) == (names[best], f"digest of {names[best]}")
    assert ("1 of the" in provenance.caveat(entry)) == (best == "tuned")
