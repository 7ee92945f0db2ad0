"""Settings of jobs/benchmark.py."""

from dataclasses import replace

import pytest

from w2v2.benchmarks.config import (
    BenchmarkConfig,
    ExtractSizes,
    MemorySizes,
    ReadingSizes,
    SearchSizes,
    TrainSizes,
)
from w2v2.config import command_line
from w2v2.errors import UserError
from w2v2.jobs import benchmark


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BenchmarkConfig(), "cases is empty: name one or more of search, head, all, extract, gpu, pretrain, ctc, reading"),
        (lambda: BenchmarkConfig(cases=("all", "all")), "cases must be different, got all, all"),
        (lambda: BenchmarkConfig(cases=("all",), encoder=""), "encoder is empty: give base, tiny"),
        (lambda: BenchmarkConfig(cases=("all",), rounds=-1), "rounds must be at least 0, got -1"),
        (lambda: SearchSizes(num_clips=11), "search.num_clips must be at least twice search.num_folds=6, got 11"),
        (lambda: SearchSizes(num_folds=1), "search.num_folds must be at least 2, got 1"),
        (lambda: TrainSizes(num_clips=1), "train.num_clips must be at least 2, got 1"),
        (lambda: ExtractSizes(batch_size=0), "extract.batch_size must be at least 1, got 0"),
        (lambda: ReadingSizes(num_objects=0), "reading.num_objects must be at least 1, got 0"),
        (lambda: MemorySizes(num_trials=(3, 3)), "memory.num_trials must be a small and a larger number, got 3 and 3"),
        (lambda: MemorySizes(clip_s=0.01), "memory.clip_s must be at least 0.1, got 0.01"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    "args",
    [
        ["search", "head", "--encoder", "tiny"],
        ["--encoder", "tiny", "search", "head"],
        ["search", "--encoder=tiny", "head"],
    ],
)
def test_words_that_belong_to_no_flag_are_cases(args):
    config = command_line.parse(BenchmarkConfig, command_line.listed_words(args, "cases"))
    assert (config.cases, config.encoder) == (("search", "head"), "tiny")


def test_an_unknown_case_is_named(capsys):
    assert benchmark.run(["extrakt"]) == 2
    assert "extrakt" in capsys.readouterr().err


def test_rounds_are_those_of_the_case_unless_given():
    config = BenchmarkConfig(cases=("all",))
    assert [config.rounds_of(case) for case in ("extract", "all", "search")] == [3, 4, 1]
    assert replace(config, rounds=5).rounds_of("search") == 5
