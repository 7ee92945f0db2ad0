"""The trainings of a learning curve: nested draws, the models that those speakers give by hand, continued after a kill."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import balanced_accuracy_score

from tests.made.kills import killed_after
from tests.search.test_final_trainings import choices_of, with_search
from tests.search.test_head_search import make_plan
from w2v2.config.model import TaskConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.search import head_search
from w2v2.search.learning_curve import NUM_DRAWS, curve_sizes, draw_order, recorded_curve, train_curve
from w2v2.search.nested import cost_of
from w2v2.search.one_by_one import train_one_by_one
from w2v2.search.space import with_params
from w2v2.search.trial import SearchPlan, score_here
from w2v2.training.fold_result import DivergenceError

CLASSES = ("class 0", "class 1", "class 2")
SIZES = [2, 4, 6, 8]


def with_speakers(plan: SearchPlan) -> pa.Table:
    """The clips, four speakers to each of three folds."""
    names = [f"{fold}-{number % 4}" for number, fold in enumerate(plan.clips["fold"].to_pylist())]
    return plan.clips.append_column("speaker", pa.array(names))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    plan = with_search(make_plan(tmp_path_factory.mktemp("curve")), learning_curve=True)
    choices = choices_of(plan)
    clips = with_speakers(plan)
    return plan, clips, choices, train_curve(plan, clips, choices, train=head_search.train_heads)


def test_sizes_are_quarters_of_the_smallest_training_set(finished):
    _, clips, _, curve = finished
    assert curve_sizes(clips) == SIZES == curve.sizes
    assert len(curve.scores) == len(SIZES) * NUM_DRAWS * 3
    many = pa.table({"speaker": [str(n) for n in range(24)], "fold": [n % 6 for n in range(24)]})
    assert curve_sizes(many) == [5, 10, 15, 20]
    with pytest.raises(UserError, match=r"needs 4 training speakers or more in each fold, got 3 speakers"):
        curve_sizes(many.slice(0, 6).set_column(1, "fold", pa.array([0, 0, 0, 1, 1, 1])))


def test_draws_are_nested_seeded_and_never_of_the_held_out(finished):
    _, clips, _, _ = finished
    first = draw_order(clips, 0, 0, seed=0)
    assert sorted(first) == sorted({s for s in clips["speaker"].to_pylist() if not s.startswith("0-")})
    assert first == draw_order(clips.take(np.arange(len(clips))[::-1]), 0, 0, seed=0)
    orders = {tuple(draw_order(clips, 0, draw, seed=seed)) for draw in range(3) for seed in range(3)}
    assert len(orders) == 9


def test_each_quarter_of_the_speakers_has_every_class_where_a_speaker_has_one():
    speaker = [f"{n:02}" for n in range(40)]
    clips = pa.table(
        {"speaker": speaker, "fold": [0] * 4 + [1] * 36, "label": ["ab"[n % 2] for n in range(40)]}
    )
    for draw in range(20):
        order = draw_order(clips, 0, draw, seed=0)
        for size in (9, 18, 27):
            assert abs(sum(int(name) % 2 for name in order[:size]) - size / 2) <= 1


def test_models_are_those_that_are_trained_by_hand_on_these_speakers(finished):
    plan, clips, choices, curve = finished
    speaker = np.array(clips["speaker"].to_pylist())
    seen = []
    for (size, draw, fold), score in curve.scores.items():
        seen.append(score.probabilities.tobytes())
        if draw != size % NUM_DRAWS:  # one in three
            continue
        drawn = draw_order(clips, fold, draw, seed=plan.config.seed)[:size]
        rows = np.flatnonzero(np.isin(speaker, drawn) | (np.asarray(clips["fold"]) == fold))
        # A search whose only clips are these: nothing else is known to it.
        alone = replace(plan, clips=plan.clips.take(rows), replicate=1000 + draw)
        by_hand = score_here(with_params(plan.config, choices[fold].params), alone, fold)
        np.testing.assert_allclose(score.probabilities, by_hand.probabilities, atol=1e-6)
        assert score.clip_ids == by_hand.clip_ids and score.num_train == len(rows) - len(score.clip_ids)
    assert len(set(seen)) == len(seen)
    train_rows = np.flatnonzero(np.asarray(clips["fold"]) != 0)
    assert curve.scores[8, 0, 0].num_train == len(train_rows)


def test_without_heads_side_by_side_they_are_the_same(finished, tmp_path):
    plan, clips, choices, curve = finished
    other_plan = replace(plan, run=str(tmp_path / "other"))
    again = train_curve(other_plan, clips, choices[:1], train=train_one_by_one)
    for place, score in again.scores.items():
        np.testing.assert_allclose(score.probabilities, curve.scores[place].probabilities, atol=1e-6)


def test_a_kill_trains_nothing_twice_and_changes_nothing(finished, tmp_path, monkeypatch):
    plan, clips, choices, whole = finished
    plan = replace(plan, run=str(tmp_path / "killed"))
    with killed_after(20, monkeypatch):
        train_curve(plan, clips, choices, train=head_search.train_heads)
    trained = []

    def train(trainings, *, on_done):
        trained.extend(trainings)
        head_search.train_heads(trainings, on_done=on_done)

    assert recorded_curve(plan, clips, choices) is None
    again = train_curve(plan, clips, choices, train=train)
    assert recorded_curve(plan, clips, choices).scores.keys() == again.scores.keys()
    assert len(trained) == len(whole.scores) - 20
    for place, score in whole.scores.items():
        assert np.array_equal(again.scores[place].probabilities, score.probabilities)
    names = [path.name for path in Path(plan.run, "ledger").iterdir()]
    assert len(names) == len(whole.scores) and "speakers-00004-00002-fold-01.parquet" in names


def test_numbers_and_table_are_those_of_scikit_learn(finished):
    _, clips, choices, curve = finished
    numbers = curve.numbers(clips, CLASSES, metric="uar", seed=0)
    label = dict(zip(clips["clip_id"].to_pylist(), clips["label"].to_pylist(), strict=True))
    for point in numbers["points"]:
        of_size = [s for (size, _, _), s in curve.scores.items() if size == point["num_speakers"]]
        target = [label[name] for score in of_size for name in score.clip_ids]
        predicted = [CLASSES[c] for score in of_size for c in score.probabilities.argmax(1)]
        assert point["value"] == pytest.approx(balanced_accuracy_score(target, predicted))
    table = curve.table(CLASSES)
    assert len(table) == len(curve.scores) and set(table["num_speakers"].to_pylist()) == set(SIZES)
    row = table.to_pylist()[0]
    assert row["trial"] == choices[row["fold"]].trial and 0 <= row["uar"] <= 1 and row["seconds"] > 0


def test_a_divergence_transcripts_and_the_cost(finished):
    plan, clips, choices, _ = finished

    def train(trainings, *, on_done):
        raise DivergenceError("the training loss is nan in epoch 1")

    with pytest.raises(UserError, match=r"nan in epoch 1.*clip_norm.*leave out --search.learning_curve"):
        train_curve(replace(plan, run=plan.run + "-other"), clips, choices, train=train)
    with pytest.raises(UserError, match=r"search.learning_curve is for task.kind=classes"):
        TuneFoldsConfig(task=TaskConfig(kind="transcript"), search=SearchConfig(learning_curve=True))
    cost = cost_of(TuneFoldsConfig(search=SearchConfig(num_trials=30, learning_curve=True)))
    assert str(cost) == (
        "180 models by the search, 72 on some of the speakers by the learning curve: up to 252 to train"
    )
