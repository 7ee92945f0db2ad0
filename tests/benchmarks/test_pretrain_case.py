"""The case pretrain: equal losses at each step, on both kinds of lengths."""

import numpy as np
import pytest

from w2v2.benchmarks.config import BenchmarkConfig, PretrainSizes
from w2v2.benchmarks.example_loop import EXAMPLE, SAME_BATCHES
from w2v2.benchmarks.pretrain_case import pretrain
from w2v2.benchmarks.result import OURS
from w2v2.errors import UserError


@pytest.mark.slow
def test_losses_of_both_sides_are_equal():
    config = BenchmarkConfig(
        cases=("pretrain",), encoder="tiny", rounds=1, pretrain=PretrainSizes(num_clips=5, batch_size=2)
    )
    result = pretrain(config)
    assert [part.part for part in result.comparisons] == ["RAVDESS's lengths", "heavy-tailed lengths"]
    for comparison, agreement in zip(result.comparisons, result.agreements, strict=True):
        assert set(comparison.seconds) == {OURS, EXAMPLE, SAME_BATCHES}
        assert np.isfinite(comparison.median(OURS))
        assert agreement.holds and agreement.value > 0


def test_other_encoders_are_refused():
    with pytest.raises(UserError, match="encoder must be base or tiny for the case pretrain, got a/b"):
        pretrain(BenchmarkConfig(cases=("pretrain",), encoder="a/b"))
