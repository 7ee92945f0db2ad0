"""Memory by size."""

import pytest

from w2v2.benchmarks import memory_case


def test_memory_is_told_by_size_with_the_ratio():
    told = memory_case._told(
        "extraction", "clips", {1000: [100_000_000, 90_000_000], 20_000: [120_000_000, 80_000_000]}
    )
    assert [found.value for found in told] == pytest.approx([100, 120, 1.2])
    assert [found.holds for found in told] == [True, True, False]
    assert told[2].side == "20,000 clips" and told[2].what == "peak over that of 1,000"
