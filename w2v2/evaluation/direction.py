"""Whether a higher score is a better one."""

LOWER_IS_BETTER = frozenset({"wer", "cer", "rmse", "mse"})
"""Scores that count errors."""


def sign(metric: str) -> int:
    """1 where a higher score is better, -1 where a lower one is: times it, higher is better.

    >>> sign("uar"), sign("cer")
    (1, -1)
    """
    return -1 if metric in LOWER_IS_BETTER else 1


def better_word(metric: str) -> str:
    """`higher` or `lower`, which is the better score."""
    return "higher" if sign(metric) > 0 else "lower"


def worst(metric: str) -> float:
    """What counts in a choice for a fold that does not define the score: nothing right, or all wrong."""
    return 1.0 if metric in LOWER_IS_BETTER else 0.0
