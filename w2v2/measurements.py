"""Measurements of a running job, passed to followers such as an experiment tracker; by default there are none."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

Points = Sequence[tuple[int, Mapping[str, float | None]]]
"""Steps in ascending order, each with its values by name; None is undefined."""
Follower = Callable[[str, Points], None]

_followers: list[Follower] = []


@contextlib.contextmanager
def followed_by(follower: Follower) -> Iterator[None]:
    """A block during which the follower receives every call of `measured` in this process."""
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
    """Pass measurements to the followers; group names their source, such as a training or a fold of a trial.

    >>> seen = []
    >>> with followed_by(lambda group, points: seen.append((group, points))):
    ...     measured("training", [(1, {"train_loss": 0.5})])
    >>> seen
    [('training', [(1, {'train_loss': 0.5})])]
    """
    for follower in _followers:
        follower(group, points)
