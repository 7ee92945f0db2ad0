"""The case commands, in small: our commands and the peers' programs run to their end and make the same."""

import importlib.util

import pytest

from w2v2.benchmarks.commands_case import PIPELINE, TUNE, commands
from w2v2.benchmarks.config import BenchmarkConfig, ExtractSizes, SearchSizes
from w2v2.benchmarks.result import OURS
from w2v2.errors import UserError


@pytest.mark.slow
def test_both_programs_make_the_same(tmp_path):
    pytest.importorskip("accelerate")
    config = BenchmarkConfig(
        cases=("commands",),
        encoder="tiny",
        rounds=1,
        extract=ExtractSizes(num_clips=3, batch_size=1),  # without padding, whose frames the pipeline counts
        search=SearchSizes(num_clips=6, num_trials=2, num_folds=2, num_epochs=1, batch_size=2),
    )
    result = commands(config, tmp_path)
    assert [set(comparison.seconds) for comparison in result.comparisons] == [{OURS, PIPELINE}, {OURS, TUNE}]
    values = {(one.part, one.side, one.what): one.value for one in result.agreements}
    for part, side in (("extraction", OURS), ("extraction", PIPELINE), ("search", OURS), ("search", TUNE)):
        assert 100 < values[part, side, "peak memory, MB"] < 20_000
    assert values["extraction", PIPELINE, "max abs difference from ours"] < 1e-4
    assert values["search", TUNE, "last training losses, max difference from ours"] < 1e-3


def test_without_accelerate_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"Trainer, which needs accelerate: install it with pip install 'w2v2\[bench\]'"
    ):
        commands(BenchmarkConfig(cases=("commands",)), tmp_path)
    assert not list(tmp_path.iterdir())
