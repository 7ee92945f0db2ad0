"""A search, against Trainer."""

import numpy as np
import pyarrow as pa
import pytest

from w2v2.benchmarks import search_case, synthetic_clips, transformers_trainer
from w2v2.benchmarks.config import (
    BenchmarkConfig,
    SearchSizes,
)
from w2v2.benchmarks.result import OURS
from w2v2.data import folds, manifest
from w2v2.search.space import distribution, field_at
from w2v2.search.study import Study
from w2v2.storage import run_directory


@pytest.fixture(scope="module")
def search_job(tmp_path_factory: pytest.TempPathFactory, tiny: str):
    corpus = synthetic_clips.write_corpus(
        tmp_path_factory.mktemp("corpus"), np.linspace(0.4, 0.6, 14), seed=0
    )
    config = BenchmarkConfig(cases=("search",), num_threads=1, search=SearchSizes(num_trials=4, num_epochs=1))
    return search_case.job_of(config, corpus, tiny, train="last")


def test_trainer_gets_the_hyperparameters_that_the_job_will_propose(tmp_path, search_job):
    given = search_case.proposals(search_job, tmp_path / "before")
    space = search_job.search.space
    defaults = {path: field_at(search_job, path) for path in space}
    made = {path: distribution(path, dimension, defaults[path]) for path, dimension in space.items()}
    study = Study(str(tmp_path / "run"), search=search_job.search, space=made, defaults=defaults, seed=0)
    for number, optim in enumerate(given):
        proposal = study.ask()
        assert proposal.params == {
            "optim.learning_rate": optim.learning_rate,
            "optim.weight_decay": optim.weight_decay,
        }
        study.report(proposal.number, [0.3 * number], num_folds=6)
        study.complete(proposal.number, [0.1 * number] * 6)
    assert study.ask() is None
    assert given[0] == search_job.optim and len({optim.learning_rate for optim in given}) == 4


def test_the_peer_sees_the_clips_as_the_job_does(search_job):
    clips = search_case.labelled(search_job)
    assigned = folds.assign(manifest.read(search_job.data).clips, search_job.folds)
    assert clips.num_classes == 2 and len(clips.waveforms) == 14
    assert clips.folds.tolist() == assigned["fold"].to_pylist()
    names = manifest.classes_of(assigned)
    assert [names[target] for target in clips.targets] == assigned["label"].to_pylist()


def test_a_search_is_read_from_its_run_directory(tmp_path):
    trials = [
        {"trial": 0, "state": "COMPLETE", "uar_mean": 0.5},
        {"trial": 1, "state": "PRUNED", "uar_mean": 0.9},
        {"trial": 2, "state": "COMPLETE", "uar_mean": 0.7},
    ]
    rows = [{"trial": t, "fold": f, "train_loss": t + f / 10, "seconds": 2.0} for t in (0, 2) for f in (0, 1)]
    run_directory.write_table(str(tmp_path), "trials", pa.Table.from_pylist(trials))
    run_directory.write_table(str(tmp_path), "folds", pa.Table.from_pylist(rows))
    searched = search_case.read_search(str(tmp_path))
    assert (searched.best, searched.scores, searched.train_seconds) == (2, {0: 0.5, 2: 0.7}, 8.0)
    assert searched.losses == {(0, 0): 0.0, (0, 1): 0.1, (2, 0): 2.0, (2, 1): 2.1}
    folds_of_peer = [
        transformers_trainer.PeerFold(
            trial=t,
            fold=f,
            train_losses=[9.0, t + f / 10],
            loss=1.0,
            uar=0.5 + 0.1 * t + 0.2 * f,
            seconds=2.0,
        )
        for t in (0, 2)
        for f in (0, 1)
    ]
    same = search_case.summarised(folds_of_peer, 2)
    assert (same.best, same.losses, same.train_seconds) == (2, searched.losses, 8.0)
    assert same.scores == pytest.approx({0: 0.6, 2: 0.8})


def test_a_search_is_compared_whole_and_in_its_training(tmp_path):
    config = BenchmarkConfig(cases=("search",))
    sides = (OURS, search_case.PRUNED, search_case.TRAINER)
    results = {
        side: [search_case.SearchResult(best=0, scores={0: 1.0}, losses={(0, 0): 1.0}, train_seconds=seconds)]
        for side, seconds in zip(sides, (2.0, 1.0, 8.0), strict=True)
    }
    rounds = search_case.Rounds(
        seconds=dict(zip(sides, ([20.0], [10.0], [30.0]), strict=True)), results=results
    )
    comparisons = search_case.compared(rounds, config, (3.5, 7.0))
    assert [c.ratios("Trainer") for c in comparisons] == [[1.5], [3.0], [4.0], [8.0]]
    assert [c.wanted["Trainer"] for c in comparisons] == [3.5, 7.0, 3.5, 7.0]
