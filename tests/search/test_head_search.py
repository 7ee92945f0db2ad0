"""A search of heads in one process: the same trials, folds and scores as on workers, continued after a kill."""

from dataclasses import replace

import numpy as np
import optuna
import pyarrow as pa
import pytest

from tests.made.kills import killed_after
from w2v2.config.data import CacheConfig, FoldsConfig
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.config.resources import TrainingResources
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.features.cache import FeatureCache
from w2v2.search import head_search
from w2v2.search.fold_store import FoldStore
from w2v2.search.side_by_side import SideBySide
from w2v2.search.space import distribution, field_at, with_params
from w2v2.search.study import Study
from w2v2.search.trial import SearchPlan, score_here

NUM_CLIPS, DIM, KEY = 72, 48, "pooled-0"
SPACE = {
    "optim.learning_rate": Dimension(low=1e-4, high=1e-1, log=True),
    "optim.batch_size": Dimension(choices=(8, 16)),
}


def make_plan(tmp_path, *, pruning: str = "none", at_once: int = 0, run: str = "run", **optim) -> SearchPlan:
    config = TuneFoldsConfig(
        run=str(tmp_path / run),
        cache=CacheConfig(uri=str(tmp_path / "cache")),
        folds=FoldsConfig(kind="grouped", num_folds=3),
        encoder=EncoderConfig(train="head"),
        optim=OptimConfig(learning_rate=1e-2, **optim),
        head=HeadConfig(dropout=0.1),
        training=TrainingConfig(num_epochs=2),
        search=SearchConfig(num_trials=5, max_concurrent_trials=at_once, pruning=pruning, space=SPACE),
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=NUM_CLIPS)
    vectors = rng.normal(size=(NUM_CLIPS, DIM)).astype(np.float32) + labels[:, None] * 0.2
    names = [f"{index:032x}" for index in range(NUM_CLIPS)]
    FeatureCache(config.cache, KEY).write(
        list(zip(names, vectors.astype(np.float32), strict=True)), num_at_once=4
    )
    clips = pa.table(
        {
            "clip_id": names,
            "fold": rng.permutation(NUM_CLIPS) % 3,
            "label": [f"class {label}" for label in labels],
            "audio_digest": names,
            "num_samples": rng.integers(8000, 48000, size=NUM_CLIPS),
        }
    )
    return SearchPlan(
        config=config,
        run=config.run,
        classes=("class 0", "class 1", "class 2"),
        keys={config.encoder: KEY},
        clips=clips,
        gpus=0.0,
        vector_size=DIM,
    )


def make_study(plan: SearchPlan) -> Study:
    defaults = {path: field_at(plan.config, path) for path in SPACE}
    return Study(
        plan.run,
        search=plan.config.search,
        space={path: distribution(path, dimension, defaults[path]) for path, dimension in SPACE.items()},
        defaults=defaults,
        seed=0,
    )


def searched(plan: SearchPlan) -> list[optuna.trial.FrozenTrial]:
    study = make_study(plan)
    head_search.search_heads(plan, study)
    return study.study.trials


def test_every_fold_is_the_one_that_a_worker_gives(tmp_path):
    plan = make_plan(tmp_path)
    assert plan.trains_heads_alone
    trials = searched(plan)
    assert [t.state.name for t in trials] == ["COMPLETE"] * 5
    scores = dict(FoldStore(plan.run).each(range(5), 3))
    assert len({score.probabilities.tobytes() for score in scores.values()}) == 15
    for (number, fold), score in scores.items():
        alone = score_here(with_params(plan.config, trials[number].params), plan, fold)
        assert score.clip_ids == alone.clip_ids
        np.testing.assert_allclose(score.probabilities, alone.probabilities, atol=1e-6)
        assert score.loss == pytest.approx(alone.loss, abs=1e-6)


def test_one_at_a_time_is_the_same_search_whether_killed_or_not(tmp_path, monkeypatch):
    whole = make_plan(tmp_path, at_once=1, run="whole")
    trials = searched(whole)
    killed = make_plan(tmp_path, at_once=1, run="killed")
    with killed_after(7, monkeypatch):
        searched(killed)
    again = searched(killed)
    assert [t.params for t in again] == [t.params for t in trials]
    assert [t.values for t in again] == [t.values for t in trials]
    first, second = (dict(FoldStore(plan.run).each(range(5), 3)) for plan in (whole, killed))
    assert all(np.array_equal(first[at].probabilities, second[at].probabilities) for at in first)


def test_trials_are_pruned_between_folds_and_what_follows_is_not_kept(tmp_path):
    plan = make_plan(tmp_path, pruning="median")
    plan = replace(plan, config=replace(plan.config, search=replace(plan.config.search, num_trials=12)))
    trials = searched(plan)
    pruned = [t for t in trials if t.state.name == "PRUNED"]
    assert pruned
    assert len(trials) == 12
    kept = dict(FoldStore(plan.run).each(range(12), 3))
    for trial in trials:
        folds = [fold for number, fold in kept if number == trial.number]
        assert folds == list(range(2 if trial in pruned else 3))
        assert sorted(trial.intermediate_values) == [fold + 1 for fold in folds]


def test_a_trial_that_diverges_fails_and_says_why(tmp_path):
    plan = make_plan(tmp_path)
    wild = {"optim.learning_rate": Dimension(choices=(1e-2, 1e38))}
    plan = replace(plan, config=replace(plan.config, search=replace(plan.config.search, num_trials=4)))
    study = Study(
        plan.run,
        search=plan.config.search,
        space={path: distribution(path, dimension, 0.0) for path, dimension in wild.items()},
        defaults={"optim.learning_rate": 1e38},
        seed=0,
    )
    head_search.search_heads(plan, study)
    states = {t.params["optim.learning_rate"]: t.state.name for t in study.study.trials}
    assert states[1e38] == "FAIL"
    assert "the training loss is nan in epoch 1" in study.study.trials[0].user_attrs["error"]


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: replace(plan, keys={plan.config.encoder: "layer2-0"}),
        lambda plan: replace(plan, vector_size=2**24),
        lambda plan: replace(plan, config=replace(plan.config, optim=OptimConfig(accumulation_steps=2))),
        lambda plan: replace(plan, config=replace(plan.config, resources=TrainingResources(num_workers=2))),
    ],
)
def test_what_is_no_search_of_heads_or_too_large_goes_to_workers(tmp_path, change):
    assert not change(make_plan(tmp_path)).trains_heads_alone


def test_divided_among_processes_every_fold_is_the_same_bit_for_bit(tmp_path, monkeypatch):
    alone = make_plan(tmp_path, run="alone")
    searched(alone)
    shares = []

    class Watched(SideBySide):
        def run(self, work):
            shares.append([len(share) for share in work])
            return super().run(work)

    monkeypatch.setattr(head_search, "MIN_STEPS_TO_DIVIDE", 1)
    monkeypatch.setattr(head_search, "num_helpers", lambda: 2)
    monkeypatch.setattr(head_search, "SideBySide", Watched)
    divided = make_plan(tmp_path, run="divided")
    searched(divided)
    assert shares and all(len(of_round) == 3 and sum(of_round) > 1 for of_round in shares)
    one, several = (dict(FoldStore(plan.run).each(range(5), 3)) for plan in (alone, divided))
    assert one.keys() == several.keys()
    for place, score in one.items():
        assert score.probabilities.tobytes() == several[place].probabilities.tobytes()
        assert score.curve == several[place].curve
