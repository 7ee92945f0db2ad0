"""Rankings do not call equal runs worse, find what is worse, and count speakers won and lost."""

import numpy as np
import pytest

from w2v2.evaluation.bootstrap import Scored
from w2v2.evaluation.comparison import by_speaker, differences, ranking, wins


def mean_scored(values):
    values = np.asarray(values, float)
    return Scored(
        speakers=np.array([f"{i:03}" for i in range(len(values))]),
        values=lambda counts: {"mean": counts @ values / counts.sum(1)},
    )


def lone_scored(values):
    """Scores of single speakers only, some undefined."""
    values = np.asarray(values, float)
    means = mean_scored(values)

    def of(counts):
        return {"mean": values[np.asarray(counts).argmax(1)]}

    return Scored(speakers=means.speakers, values=of)


def test_equal_runs_are_rarely_called_worse_though_the_best_is_chosen_first():
    rng = np.random.default_rng(0)
    num_corpora, alarms, unadjusted = 60, 0, 0
    for _ in range(num_corpora):
        hard = rng.normal(0, 0.1, 24)
        runs = {f"{i}": mean_scored(0.5 + hard + rng.normal(0, 0.05, 24)) for i in range(6)}
        ranked = ranking(runs, "mean", seed=0)
        assert not ranked[0]["is_worse"] and [row["value"] for row in ranked] == sorted(
            (row["value"] for row in ranked), reverse=True
        )
        alarms += any(row["is_worse"] for row in ranked)
        last = differences(runs[ranked[0]["name"]], runs[ranked[-1]["name"]], seed=0)["mean"]
        unadjusted += last["interval"][0] > 0
    # A truly best run (here each is) leaves the set in at most 5 % of corpora; plain intervals drop some in most.
    assert alarms / num_corpora < 0.5 * unadjusted / num_corpora and unadjusted / num_corpora > 0.25


def test_a_given_best_run_stays_among_those_not_distinguished_from_the_best():
    rng = np.random.default_rng(1)
    lost = 0
    for _ in range(100):
        runs = {f"{i}": mean_scored(0.5 + rng.normal(0, 0.05, 24)) for i in range(4)}
        lost += next(row["is_worse"] for row in ranking(runs, "mean", seed=0) if row["name"] == "3")
    assert lost <= 0.05 * 100


def test_a_run_that_is_worse_is_detected_and_an_undefined_one_comes_last():
    rng = np.random.default_rng(2)
    runs = {
        "bad": mean_scored(0.4 + rng.normal(0, 0.02, 24)),
        "good": mean_scored(0.6 + rng.normal(0, 0.02, 24)),
    }
    runs |= {"nothing": mean_scored(np.full(24, np.nan)), "also": mean_scored(0.6 + rng.normal(0, 0.02, 24))}
    ranked = ranking(runs, "mean", seed=0)
    assert {row["name"] for row in ranked[:2]} == {"good", "also"}
    assert [row["name"] for row in ranked[2:]] == ["bad", "nothing"]
    assert [row["is_worse"] for row in ranked] == [False, False, True, False]
    assert ranked[3]["value"] is None


def test_speakers_won_and_lost():
    lone, other = lone_scored([0.5, 0.7, np.nan, 0.2]), lone_scored([0.5, 0.6, 0.3, 0.9])
    scores = by_speaker(lone, "mean")
    assert scores == {"000": 0.5, "001": pytest.approx(0.7), "002": None, "003": pytest.approx(0.2)}
    assert wins(scores, by_speaker(other, "mean"), metric="mean") == {
        "wins": 1,
        "ties": 1,
        "losses": 1,
        "undefined": 1,
    }
