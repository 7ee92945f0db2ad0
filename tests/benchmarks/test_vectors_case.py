"""The case vectors, in small: our command and the peers' programs, on the same vectors and folds."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from w2v2.benchmarks.config import BenchmarkConfig, VectorSizes
from w2v2.benchmarks.processes import CompletedCommand
from w2v2.benchmarks.result import OURS, Rounds, lines_of
from w2v2.benchmarks.search_case import TRAINER, SearchResult
from w2v2.benchmarks.vectors_case import LOGISTIC, MLP, OurSearch, agreements, by_fold, vectors
from w2v2.errors import UserError


@pytest.mark.slow
def test_all_sides_search_the_same_vectors(tmp_path):
    pytest.importorskip("accelerate")
    sizes = VectorSizes(num_clips=48, num_trials=3, num_folds=2, num_epochs=12)
    result = vectors(BenchmarkConfig(cases=("vectors",), num_threads=1, vectors=sizes), tmp_path)
    whole, by_fold = result.comparisons
    assert set(whole.seconds) == {OURS, MLP, LOGISTIC} and set(by_fold.seconds) == {OURS, TRAINER}
    scores = {(one.side, one.what): one.value for one in result.agreements}
    assert scores[OURS, "mean UAR of the best trial"] > 0.5
    for side in (MLP, LOGISTIC):  # of few clips and epochs
        assert 0 < scores[side, "mean UAR of the best trial"] <= 1
    assert any("the search begins after" in line for line in lines_of(result))


@pytest.mark.parametrize("kind", ["mlp", "logistic"])
def test_scikit_learn_scores_each_trial_on_the_folds_given(tmp_path, kind, monkeypatch):
    rng = np.random.default_rng(0)
    targets, folds = np.arange(60) % 2, np.arange(60) % 3
    # In the last fold the classes are the other way round, which no classifier can know.
    signs = np.where(folds == 2, -1, 1) * (2 * targets - 1)
    np.savez(
        tmp_path / "vectors.npz",
        vectors=(rng.standard_normal((60, 4)) + 5 * signs[:, None]).astype(np.float32),
        targets=targets, folds=folds, learning_rates=[1e-2, 1e-9], weight_decays=[1e-4, 1e-4],
    )  # fmt: skip
    program = str(Path(ROOT) / "jobs" / "peers" / "heads_with_sklearn.py")
    flags = ["--kind", kind, "--num_epochs", "20", "--num_cpus", "1"]
    monkeypatch.setattr(
        sys, "argv", [program, str(tmp_path / "vectors.npz"), str(tmp_path / "out.json"), *flags]
    )
    runpy.run_path(program, run_name="__main__")
    scores = json.loads((tmp_path / "out.json").read_text())["scores"]
    assert len(scores) == 2 and max(scores) < 0.75
    assert all(0 <= score <= 1 for score in scores)


def test_trainer_is_compared_by_fold_and_on_its_own_trials():
    sizes = VectorSizes(num_clips=8, num_trials=2, num_folds=2)
    searched = SearchResult(best=1, scores={0: 0.5, 1: 0.9}, losses={}, train_seconds=1.0)
    ours = OurSearch(searched=searched, ended=CompletedCommand(lines=[], seconds=8.0))
    rounds = Rounds(
        seconds={OURS: [8.0], MLP: [9.0], LOGISTIC: [1.0]},
        cpu_seconds={OURS: [12.0], MLP: [9.0], LOGISTIC: [1.0]},
        results={OURS: [ours], MLP: [[0.6, 0.7]], LOGISTIC: [[0.8, 0.2]]},
    )
    config = BenchmarkConfig(cases=("vectors",), vectors=sizes)
    folds = by_fold(config, rounds, {"seconds": [20.0, 40.0], "cpu_seconds": [30.0, 60.0]})
    assert folds.ratios(TRAINER) == [15.0] and folds.cpu_ratios(TRAINER) == [15.0]
    scores = {(one.side, one.what): one.value for one in agreements(config, rounds, [0.4, 0.6])}
    assert scores[OURS, "mean UAR of the first 1 trials"] == scores[TRAINER, "mean UAR of the first 1 trials"]
    assert scores[LOGISTIC, "mean UAR of the best trial"] == 0.8
    assert scores[OURS, "seconds"] == 8.0


def test_impossible_sizes_are_refused():
    with pytest.raises(
        UserError, match=r"vectors.num_clips must be at least twice vectors.num_folds=6, got 11"
    ):
        VectorSizes(num_clips=11)
    with pytest.raises(
        UserError, match=r"vectors.num_trainer_trials must be at most vectors.num_trials=2, got 3"
    ):
        VectorSizes(num_trials=2, num_trainer_trials=3)
