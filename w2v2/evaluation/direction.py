"""The direction of a metric: whether higher or lower scores are better."""

LOWER_IS_BETTER = frozenset({"wer", "cer", "rmse", "mse"})
"""Scores that count errors."""


def sign(metric: str) -> int:
    """1 if a higher score is better, -1 if a lower one is; multiplied by it, a higher score is better.

    >>> sign("uar"), sign("cer")
    (1, -1)
    """
    return -1 if metric in LOWER_IS_BETTER else 1


def better_word(metric: str) -> str:
    """`higher` or `lower`, whichever score is better."""
    return "higher" if sign(metric) > 0 else "lower"


def worst(metric: str) -> float:
    """The score that an undefined one counts as when trials are compared: nothing right, or all wrong."""
    return 1.0 if metric in LOWER_IS_BETTER else 0.0
