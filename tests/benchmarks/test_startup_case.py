"""Start-up, by phases and packages."""

import importlib.util

import numpy as np
import pytest

from w2v2.benchmarks import memory_case, processes, search_case, startup_case, synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.extract_case import SINGLE
from w2v2.benchmarks.result import OURS


def test_phases_are_the_first_words_of_the_log():
    lines = [
        (0.5, "07:20:24 run: /somewhere (new)"),
        (0.6, "no stamp: is not ours"),
        (1.0, "07:20:25 ray: 1 node(s)"),
        (2.0, "07:20:26 features: 1 of 2 clips"),
        (3.0, "07:20:27 features: 2 of 2 clips"),
        (9.0, "07:20:33 trial 0 fold 0 (1 of 6): uar 0.5, mean 0.5"),
        (9.5, "07:20:33 after: it"),
    ]
    phases = startup_case.phases_of(processes.CompletedCommand(lines=lines, seconds=10.0), 1.5)
    assert phases == [("run", 0.5), ("ray", 1.0), ("features", 2.0), ("first training step", 7.5)]
    with pytest.raises(AssertionError, match="no first fold"):
        startup_case.phases_of(processes.CompletedCommand(lines=lines[:3], seconds=10.0), 1.5)


def test_imports_are_summed_by_package():
    lines = [
        "import time: self [us] | cumulative | imported package",
        "import time:       100 |        100 |   numpy.core",
        "import time:      2000 |       2100 | numpy",
        "import time:       300 |        300 | zlib",
        "something else",
    ]
    assert startup_case.import_seconds(lines) == pytest.approx({"numpy": 0.0021, "zlib": 0.0003})


@pytest.mark.slow
def test_a_search_tells_its_phases_and_its_folds(tmp_path):
    """What the cases search, memory and startup read of `w2v2 tune-folds` is there."""
    corpus = synthetic_clips.write_corpus(tmp_path / "corpus", np.full(12, 0.5), seed=0)
    job = memory_case.small_search(corpus, tmp_path, num_trials=1, seed=0)
    ended = processes.run_job("tune_folds", job)
    phases = dict(startup_case.phases_of(ended, startup_case.first_fold_s(job.run)))
    assert list(phases)[-1] == "first training step"
    assert {"run", "data", "ray", "encoder", "features", "folds"} <= phases.keys()
    assert list(phases.values()) == sorted(phases.values())
    searched = search_case.read_search(job.run)
    assert searched.best == 0 and len(searched.losses) == 6


def test_the_modules_whose_imports_are_timed_exist():
    code = [args[1] for args in startup_case.IMPORTS.values() if args[0] == "-c"]
    names = [name.strip() for line in code for name in line.removeprefix("import ").split(",")]
    assert len(names) >= 5
    for name in names:
        assert importlib.util.find_spec(name), name


@pytest.mark.slow
def test_a_small_extraction_is_compared_as_a_whole_command(tmp_path, monkeypatch):
    monkeypatch.setattr(startup_case, "EXTRACT_CLIP_S", 0.5)
    config = BenchmarkConfig(cases=("startup",), encoder="tiny", rounds=1)
    comparison = startup_case.small_extraction(config, 3, tmp_path)
    assert comparison.part.startswith("extraction of 3 clips") and comparison.amount == 3
    assert set(comparison.seconds) == {OURS, SINGLE} == set(comparison.cpu_seconds)
    assert min(comparison.cpu_seconds[OURS] + comparison.cpu_seconds[SINGLE]) > 0.5
