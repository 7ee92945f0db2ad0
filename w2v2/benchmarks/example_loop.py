"""Our training side by side with the loop of a Hugging Face example: seconds, and the difference of the steps' losses."""

from collections.abc import Callable

import numpy as np

from w2v2.benchmarks.result import OURS, Agreement, Comparison, alternate

EXAMPLE, SAME_BATCHES = "the example's loop", "the example's loop, our batches"

Train = Callable[[int], list[float]]
"""One training, called with the number of the round: the loss of each of its steps."""


def compare_with_example(
    case: str,
    part: str,
    *,
    ours: Train,
    example: Train,
    same_batches: Train,
    rounds: int,
    audio_s: float,
    wanted: float,
    max_difference: float,
) -> tuple[Comparison, Agreement]:
    """Seconds of all three, and the largest relative difference of a step's loss between ours and same_batches."""
    timings = alternate(
        {OURS: ours, EXAMPLE: example, SAME_BATCHES: same_batches}, rounds=rounds, what=f"{case}, {part}"
    )
    comparison = Comparison(
        part=part,
        seconds=timings.seconds,
        cpu_seconds=timings.cpu_seconds,
        amount=audio_s,
        unit="s of audio",
        wanted={EXAMPLE: wanted},
    )
    losses, theirs = (np.array(timings.results[side][-1]) for side in (OURS, SAME_BATCHES))
    agreement = Agreement(
        part=part,
        side=SAME_BATCHES,
        what="largest relative difference of a step's loss",
        value=float(np.abs(losses / theirs - 1).max()),
        at_most=max_difference,
    )
    return comparison, agreement
