"""Measurements of a running job, handed to what follows it, such as an experiment tracker; by default nothing does."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

Points = Sequence[tuple[int, Mapping[str, float | None]]]
"""Steps in ascending order, each with its values by name; None is undefined."""
Follower = Callable[[str, Points], None]

_followers: list[Follower] = []


@contextlib.contextmanager
def followed_by(follower: Follower) -> Iterator[None]:
    """A block in whose process every `measured` reaches the follower."""
    _followers.append(follower)
    try:
        yield
    finally:
        _followers.remove(follower)


@contextlib.contextmanager
def unfollowed() -> Iterator[None]:
    """A block whose measurements reach no follower from outside."""
    outside, _followers[:] = list(_followers), []
    try:
        yield
    finally:
        _followers[:] = outside


def measured(group: str, points: Points) -> None:
    """Hand measurements to the followers; group is what was measured, such as a training or a fold of a trial.

    >>> seen = []
    >>> with followed_by(lambda group, points: seen.append((group, points))):
    ...     measured("training", [(1, {"train_loss": 0.5})])
    >>> seen
    [('training', [(1, {'train_loss': 0.5})])]
    """
    for follower in _followers:
        follower(group, points)
