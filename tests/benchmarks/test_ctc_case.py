"""The case ctc: equal losses at each step, on both kinds of lengths."""

import numpy as np
import pytest

from w2v2.benchmarks.config import BenchmarkConfig, CtcSizes
from w2v2.benchmarks.ctc_case import ctc
from w2v2.benchmarks.example_loop import EXAMPLE, SAME_BATCHES
from w2v2.benchmarks.result import OURS
from w2v2.errors import UserError


def test_losses_of_both_sides_are_equal():
    config = BenchmarkConfig(
        cases=("ctc",), encoder="tiny", rounds=1, ctc=CtcSizes(num_clips=6, batch_size=2, num_epochs=2)
    )
    result = ctc(config)
    assert [part.part.partition(",")[0] for part in result.comparisons] == [
        "RAVDESS's lengths",
        "heavy-tailed lengths",
    ]
    for comparison, agreement in zip(result.comparisons, result.agreements, strict=True):
        assert set(comparison.seconds) == {OURS, EXAMPLE, SAME_BATCHES}
        assert np.isfinite(comparison.median(OURS))
        assert agreement.holds and agreement.value > 0


def test_other_encoders_are_refused():
    with pytest.raises(UserError, match="encoder must be base or tiny for the case ctc, got a/b"):
        ctc(BenchmarkConfig(cases=("ctc",), encoder="a/b"))
