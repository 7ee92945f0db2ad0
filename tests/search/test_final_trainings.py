"""Models trained after a search: chosen without their fold, from seeds of their own, continued after a kill."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from tests.made.kills import killed_after
from tests.search.test_head_search import KEY, make_plan, searched
from w2v2.config.data import FoldsConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.search import head_search
from w2v2.search.estimate import estimate
from w2v2.search.final_trainings import (
    FinalTrainings,
    FoldChoice,
    choices_on_other_folds,
    final_predictions,
    recorded_final,
    seed_spread,
    train_choices,
)
from w2v2.search.fold_store import FoldStore
from w2v2.search.nested import cost_of, nested_choices, refuse_encoders_by_fold, without_fold
from w2v2.search.space import with_params
from w2v2.search.summary import fold_metrics
from w2v2.search.trial import SearchPlan, score_here
from w2v2.training.fold_result import DivergenceError

CLASSES = ("class 0", "class 1", "class 2")


def with_search(plan: SearchPlan, **changes) -> SearchPlan:
    config = plan.config
    return replace(plan, config=replace(config, search=replace(config.search, **changes)))


def with_speakers(plan: SearchPlan) -> pa.Table:
    """The clips, three speakers to a fold."""
    names = [f"{fold}-{number % 3}" for number, fold in enumerate(plan.clips["fold"].to_pylist())]
    return plan.clips.append_column("speaker", pa.array(names))


def choices_of(plan: SearchPlan) -> list[FoldChoice]:
    trials = searched(plan)
    scores = dict(FoldStore(plan.run).each([t.number for t in trials], 3))
    params = {t.number: t.params for t in trials}
    return choices_on_other_folds(scores, params, classes=CLASSES, metric="uar", num_folds=3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A search, and two seeds of each fold's choice after it."""
    plan = with_search(make_plan(tmp_path_factory.mktemp("final")), final_seeds=2)
    choices = choices_of(plan)
    return plan, choices, train_choices(plan, choices, train=head_search.train_heads)


def test_each_fold_is_predicted_by_the_trial_best_on_the_others(finished):
    plan, choices, _ = finished
    scores = dict(FoldStore(plan.run).each(range(5), 3))
    for fold, choice in enumerate(choices):
        others = [f for f in range(3) if f != fold]
        means = [np.mean([fold_metrics(scores[t, f], CLASSES)["uar"] for f in others]) for t in range(5)]
        assert choice.fold == fold and choice.trial == int(np.argmax(means))


def test_models_are_those_of_a_worker_with_seeds_that_the_search_has_not_used(finished):
    plan, choices, final = finished
    assert final.replicates == [1, 2] and len(final.scores) == 6
    searched_scores = dict(FoldStore(plan.run).each(range(5), 3))
    for (replicate, fold), score in final.scores.items():
        settings = with_params(plan.config, choices[fold].params)
        alone = score_here(settings, replace(plan, replicate=replicate), fold)
        np.testing.assert_allclose(score.probabilities, alone.probabilities, atol=1e-6)
        assert score.clip_ids == searched_scores[choices[fold].trial, fold].clip_ids
        assert not np.allclose(score.probabilities, searched_scores[choices[fold].trial, fold].probabilities)
    names = sorted(path.name for path in Path(plan.run, "ledger").iterdir() if path.name.startswith("final"))
    assert names == [f"final-{r:05d}-fold-{f:02d}.parquet" for r in (1, 2) for f in range(3)]


def test_no_two_trainings_have_a_seed_in_common():
    plan = SearchPlan(config=TuneFoldsConfig(), run="", classes=(), keys={}, clips=pa.table({}), gpus=0.0)
    plans = [replace(plan, replicate=r) for r in range(50)] + [replace(plan, outer_fold=f) for f in range(10)]
    for seed in (0, 1, 12345):
        reseeded = [replace(p, config=replace(plan.config, seed=seed)) for p in plans]
        seeds = [p.seed_of(fold) for p in reseeded for fold in range(10)]
        assert len(set(seeds)) == len(seeds)


def test_a_kill_trains_nothing_twice_and_changes_nothing(finished, tmp_path, monkeypatch):
    _, _, whole = finished
    plan = with_search(make_plan(tmp_path), final_seeds=2)
    choices = choices_of(plan)
    with killed_after(4, monkeypatch) as written:
        train_choices(plan, choices, train=head_search.train_heads)
    trained = []

    def train(trainings, *, on_done):
        trained.extend((one.plan.replicate, one.fold) for one in trainings)
        head_search.train_heads(trainings, on_done=on_done)

    again = train_choices(plan, choices, train=train)
    assert sorted(trained + written) == sorted(whole.scores) and len(trained) == 2
    for at, score in whole.scores.items():
        assert np.array_equal(again.scores[at].probabilities, score.probabilities)


def test_another_choice_is_trained_anew(finished, caplog):
    plan, choices, _ = finished
    other = [replace(choices[0], params={**choices[0].params, "optim.learning_rate": 0.05}), *choices[1:]]
    trained = []

    def train(trainings, *, on_done):
        trained.extend((one.plan.replicate, one.fold) for one in trainings)

    with caplog.at_level(logging.WARNING):
        train_choices(plan, other, train=train)
    assert trained == [(1, 0), (2, 0)] and "other hyperparameters" in caplog.text


def recorded(plan: SearchPlan, final: FinalTrainings, choices: list[FoldChoice], *, num_trials: int):
    """What a later command finds, after an earlier one has written metrics.json."""
    written = {"seeds": final.replicates, "is_nested": final.is_nested}
    written["choices"] = [vars(choice) for choice in final.choices]
    metrics = {"final": written, "selection": {"num_trials": num_trials}}
    Path(plan.run, "metrics.json").write_text(json.dumps(metrics))
    return recorded_final(plan, choices)


def test_a_later_command_without_the_flag_keeps_what_was_trained(finished, caplog):
    plan, choices, whole = finished
    assert recorded_final(plan, choices) is None
    kept = recorded(with_search(plan, final_seeds=0), whole, choices, num_trials=4)
    assert kept is not None and kept.replicates == [1, 2] and kept.choices == choices
    for at, score in whole.scores.items():
        assert np.array_equal(kept.scores[at].probabilities, score.probabilities)
    file = Path(plan.run, "metrics.json")
    file.write_text(file.read_text()[:-2])
    with caplog.at_level(logging.WARNING):
        assert recorded_final(with_search(plan, final_seeds=0), choices) is None
    assert (
        "metrics.json: damaged" in caplog.text and "counts again with its --search.final_seeds" in caplog.text
    )
    other = [replace(choices[0], params={**choices[0].params, "optim.learning_rate": 0.05}), *choices[1:]]
    with caplog.at_level(logging.WARNING):
        assert recorded(plan, whole, other, num_trials=4) is None
    assert (
        "belong to other hyperparameters than the search now chooses; give --search.final_seeds again"
        in caplog.text
    )


def test_nested_cross_validation_is_kept_for_as_many_trials(tmp_path, caplog):
    plan = with_search(make_plan(tmp_path), num_trials=1, nested=True)
    searched(plan)
    final = train_choices(
        plan, nested_choices(plan, search=head_search.search_heads), train=head_search.train_heads
    )
    kept = recorded(with_search(plan, nested=False), final, choices=[], num_trials=1)
    assert kept is not None and kept.is_nested and sorted(kept.scores) == [(0, 0), (0, 1), (0, 2)]
    with caplog.at_level(logging.WARNING):
        assert recorded(with_search(plan, nested=False, num_trials=2), final, [], num_trials=1) is None
    assert "give --search.nested again" in caplog.text


def test_a_training_that_diverges_is_one_sentence(finished):
    plan, choices, _ = finished

    def train(trainings, *, on_done):
        raise DivergenceError("the training loss is nan in epoch 1")

    with pytest.raises(
        UserError, match=r"nan in epoch 1.*clip_norm or lower the learning rates.*leave out --search.final"
    ):
        train_choices(with_search(plan, final_seeds=3), choices, train=train)


def test_predictions_and_spread_are_those_of_scikit_learn(finished):
    plan, choices, final = finished
    clips = with_speakers(plan)
    table = final_predictions(final, clips, CLASSES)
    assert len(table) == 2 * len(clips) and set(table["seed"].to_pylist()) == {1, 2}
    assert table["trial"].to_pylist()[: len(clips)] == [choices[f].trial for f in clips["fold"].to_pylist()]
    rows = table.to_pandas()
    spread = seed_spread(table, CLASSES)
    by_seed = [
        sk.balanced_accuracy_score(rows_of_seed["target"], rows_of_seed["predicted"])
        for _, rows_of_seed in rows.groupby("seed")
    ]
    assert spread["uar"]["values"] == pytest.approx(by_seed)
    assert spread["uar"]["std"] == pytest.approx(np.std(by_seed, ddof=1))


# -- nested cross-validation


def test_with_one_trial_it_is_plain_cross_validation(tmp_path):
    plan = with_search(make_plan(tmp_path), num_trials=1, nested=True)
    searched(plan)
    plain = dict(FoldStore(plan.run).each([0], 3))
    choices = nested_choices(plan, search=head_search.search_heads)
    final = train_choices(plan, choices, train=head_search.train_heads)
    assert final.is_nested and final.replicates == [0]
    for fold in range(3):
        assert np.array_equal(final.scores[0, fold].probabilities, plain[0, fold].probabilities)


def test_nothing_of_a_fold_reaches_the_search_without_it_and_a_kill_changes_nothing(tmp_path):
    plan = with_search(make_plan(tmp_path, at_once=1), num_trials=3, nested=True)
    folds, seen = np.asarray(plan.clips["fold"]), []

    def search(inner, study):
        seen.append(inner)
        if len(seen) == 2:
            raise KeyboardInterrupt
        head_search.search_heads(inner, study)

    with pytest.raises(KeyboardInterrupt):
        nested_choices(plan, search=search)
    choices = nested_choices(plan, search=search)
    for fold, inner in enumerate(seen[2:]):
        ids = np.array(plan.clips["clip_id"].to_pylist())
        assert set(inner.clips["clip_id"].to_pylist()) == set(ids[folds != fold])
        assert sorted(set(inner.clips["fold"].to_pylist())) == [0, 1] and inner.num_folds == 2
        recorded = dict(inner.fold_store.each(range(3), 2))
        assert len(recorded) == 6
        # Chosen by the inner folds alone.
        means = [np.mean([fold_metrics(recorded[t, f], CLASSES)["uar"] for f in (0, 1)]) for t in range(3)]
        assert choices[fold].trial == int(np.argmax(means))
        held_out = {clip for score in recorded.values() for clip in score.clip_ids}
        assert held_out == set(ids[folds != fold])


def test_folds_keep_their_order_where_one_is_left_out(tmp_path):
    plan = make_plan(tmp_path)
    folds = np.asarray(plan.clips["fold"])
    inner = without_fold(plan, 1)
    assert np.asarray(inner.clips["fold"]).tolist() == [{0: 0, 2: 1}[f] for f in folds if f != 1]
    assert inner.keys == {plan.config.encoder: KEY} and inner.trains_heads_alone


def test_a_search_without_a_complete_trial_is_one_sentence(tmp_path):
    plan = with_search(make_plan(tmp_path), nested=True)
    with pytest.raises(UserError, match="no trial of the search without fold 0 has all its folds"):
        nested_choices(plan, search=lambda inner, study: None)


def test_encoders_of_single_folds_are_refused(tmp_path):
    config = make_plan(tmp_path).config
    nested = replace(config, search=replace(config.search, nested=True))
    of_fold = {config.encoder: [config.encoder] * 3}
    refuse_encoders_by_fold(config, of_fold)
    refuse_encoders_by_fold(nested, {})
    with pytest.raises(UserError, match=r"leaves out two folds at a time"):
        refuse_encoders_by_fold(nested, of_fold)


def test_the_cost_is_computed_before():
    config = TuneFoldsConfig(folds=FoldsConfig(kind="grouped", num_folds=6))
    assert (
        str(cost_of(replace(config, search=SearchConfig(num_trials=30)))) == "up to 180 models by the search"
    )
    seeds = cost_of(replace(config, search=SearchConfig(num_trials=30, final_seeds=3)))
    assert (seeds.num_search, seeds.num_inner, seeds.num_final) == (180, 0, 18)
    nested = cost_of(replace(config, search=SearchConfig(num_trials=30, nested=True)))
    assert str(nested) == (
        "180 models by the search, 900 by the searches without one fold, 6 by its choices with their seeds: up to 1086 to train"
    )
    with pytest.raises(UserError, match=r"search.nested needs folds.num_folds of at least 3, got 2"):
        TuneFoldsConfig(folds=FoldsConfig(kind="grouped", num_folds=2), search=SearchConfig(nested=True))


@pytest.mark.parametrize(
    ("nested", "name", "how"),
    [
        (False, "cross-validation with 2 new seeds", "of the trial that is best on the other folds, trained again with 2 new seeds."),
        (True, "nested cross-validation with 2 new seeds", "that a search of 5 trials on the speakers of the other folds alone has chosen, trained with 2 new seeds."),
    ],
)  # fmt: skip
def test_the_estimate_names_how_it_was_made(finished, nested, name, how):
    from w2v2.evaluation.scores import scored

    plan, _, final = finished
    table = final_predictions(final, with_speakers(plan), CLASSES)
    numbers = estimate(
        scored(table, "classes", CLASSES),
        metric="uar",
        num_folds=3,
        num_trials=5,
        num_complete=5,
        best={"uar": 0.5, "accuracy": 0.5, "macro_f1": None},
        seed=0,
        final=replace(final, is_nested=nested),
    )
    assert numbers["name"] == name and numbers["how"].endswith(how)
    # The counts of all seeds together.
    expected = sk.balanced_accuracy_score(table["target"].to_pylist(), table["predicted"].to_pylist())
    assert numbers["metrics"]["uar"]["value"] == pytest.approx(expected)
