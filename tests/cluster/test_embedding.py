"""The size of an extraction's parts."""

import pytest

from w2v2.cluster.embedding import clips_per_part


@pytest.mark.parametrize(
    ("num_clips", "per_part"),
    [(1, 64), (10_000, 64), (20_000, 100), (100_000, 500), (400_000, 500), (10**6, 1_000), (10**7, 10_000)],
)
def test_neither_many_small_parts_nor_much_that_is_lost_with_one(num_clips, per_part):
    assert clips_per_part(num_clips) == per_part
    assert -(-num_clips // per_part) <= 1_000
