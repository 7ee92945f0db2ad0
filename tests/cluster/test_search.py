"""A trial's folds: begun ahead, reported in their order, not trained again; no Ray needed."""

import numpy as np
import pyarrow as pa
import pytest

from w2v2.cluster import search
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.search.fold_store import Ledger
from w2v2.search.trial import Plan
from w2v2.training.fold_result import DivergenceError, Epoch, FoldScore

NUMBER = 3


def score(fold: int) -> FoldScore:
    return FoldScore(
        fold=fold,
        clip_ids=["a"],
        targets=np.array([0]),
        probabilities=np.array([[1.0]]),
        loss=0.0,
        num_train=1,
        seconds=1.0,
        curve=[Epoch(epoch=1, train_loss=0.0, train_uar=1.0, learning_rate=0.1)],
    )


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a trial of six folds, of which 1 and 4 are in the ledger; gives what it does, in order."""
    plan = Plan(
        config=TuneFoldsConfig(), run=str(tmp_path), classes=("x",), keys={}, clips=pa.table({}), gpus=0.0
    )
    for fold in (1, 4):
        Ledger(plan.run).write(NUMBER, score(fold))

    def run(num_ahead: int, *, diverges: int | None = None) -> list[str]:
        events: list[str] = []

        def begin(settings, plan, fold, *, name):
            events.append(f"begin {fold}")

            def wait():
                if fold == diverges:
                    raise DivergenceError("the training loss is nan")
                return score(fold)

            return wait

        def report(result):
            known = "" if result.get("trained") else " known"
            events.append(result.get("error") or f"score {result['fold_score'].fold}{known}")

        monkeypatch.setattr(search, "_begin", begin)
        monkeypatch.setattr(search.tune, "report", report)
        search.run_trial({"number": NUMBER, "params": {}}, plan=plan, num_ahead=num_ahead)
        return events

    return run


def test_one_at_a_time_begins_each_when_the_one_before_is_reported(run):
    assert run(1) == [
        "begin 0", "score 0", "begin 2", "score 1 known", "score 2", "begin 3", "score 3", "begin 5",
        "score 4 known", "score 5",
    ]  # fmt: skip


def test_several_are_under_way_and_reported_in_their_order(run):
    events = run(3)
    assert events[:3] == ["begin 0", "begin 2", "begin 3"]
    assert [event for event in events if event.startswith("score")] == [
        "score 0", "score 1 known", "score 2", "score 3", "score 4 known", "score 5",
    ]  # fmt: skip
    assert events.index("begin 5") == events.index("score 0") + 1


def test_a_fold_that_diverges_ends_the_trial(run):
    assert run(1, diverges=2) == [
        "begin 0",
        "score 0",
        "begin 2",
        "score 1 known",
        "the training loss is nan",
    ]


def test_the_last_trials_have_not_all_workers():
    pace_s = 2.0  # a fold every two seconds, by four trials at once: one trial takes eight for one
    assert search.seconds_left(24, pace_s, at_once=4, num_trials=4) == 48
    assert search.seconds_left(60, pace_s, at_once=4, num_trials=10) == 120
    assert search.seconds_left(6, pace_s, at_once=4, num_trials=1) == 6 * 8
