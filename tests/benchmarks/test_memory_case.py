"""Memory by size."""

import pytest

from w2v2.benchmarks import memory_case


def test_memory_is_reported_by_size_with_the_ratio():
    agreements = memory_case._memory_agreements(
        "extraction", "clips", {1000: [100_000_000, 90_000_000], 20_000: [120_000_000, 80_000_000]}
    )
    assert [agreement.value for agreement in agreements] == pytest.approx([100, 120, 1.2])
    assert [agreement.holds for agreement in agreements] == [True, True, False]
    assert agreements[2].side == "20,000 clips" and agreements[2].what == "peak over that of 1,000"
