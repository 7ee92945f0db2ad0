"""Work divided between this process and forked ones, which share its memory as it was when they were started."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

W = TypeVar("W")
R = TypeVar("R")

MAX_HELPERS = 7


def num_helpers() -> int:
    """How many processes may compute next to this one: one for each further core, none where forking is not safe."""
    return min(MAX_HELPERS, len(os.sched_getaffinity(0)) - 1) if sys.platform == "linux" else 0


class SideBySide(Generic[W, R]):
    """This process and helpers, all of which compute the same function; they end with this process."""

    def __init__(self, compute: Callable[[W], R], *, helpers: int) -> None:
        self._compute = compute
        self._pipes: list[Connection] = []
        context = multiprocessing.get_context("fork")
        for _ in range(helpers):
            near_end, far_end = context.Pipe()
            self._pipes.append(near_end)
            context.Process(target=_serve, args=(compute, far_end, list(self._pipes)), daemon=True).start()
            far_end.close()

    def close(self) -> None:
        """End the helpers."""
        for pipe in self._pipes:
            pipe.close()
        self._pipes = []

    @property
    def num_shares(self) -> int:
        """How many shares are computed at the same time."""
        return 1 + len(self._pipes)

    def run(self, shares: Sequence[Sequence[W]]) -> list[list[R]]:
        """The function's results for each item of each share; the first share is computed here, each other one by a helper.

        Raises what the function raises. The share of a helper that was killed is computed here.
        """
        busy = list(zip(self._pipes, shares[1:], strict=False))
        sent = [_send(pipe, share) for pipe, share in busy]
        try:
            results = [[self._compute(item) for item in shares[0]]]
        finally:  # an unread answer would be taken for the answer to the next share
            answers = [
                _receive(pipe) if was_sent else None for (pipe, _), was_sent in zip(busy, sent, strict=True)
            ]
        for (_, share), answer in zip(busy, answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            results.append([self._compute(item) for item in share] if answer is None else answer)
        return results


def _send(pipe: Connection, share: Sequence[W]) -> bool:
    """Whether the helper could be given its share."""
    try:
        pipe.send(list(share))
    except OSError:
        return False
    return True


def _receive(pipe: Connection) -> "list | Exception | None":
    """The helper's answer; None where it is gone."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def _serve(compute: Callable[[W], R], pipe: Connection, inherited: Sequence[Connection]) -> None:
    """Answer each share until the other end is closed."""
    for other_end in inherited:  # this process would otherwise hold its own pipe open
        other_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            share = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send([compute(item) for item in share])
        except Exception as error:
            pipe.send(error)


def divided(costs: Sequence[float], num_shares: int) -> list[list[int]]:
    """The places of the costs in shares whose sums are about the same: the largest first, each into the smallest share.

    >>> divided([1.0, 5.0, 2.0, 3.0], 2)
    [[1, 0], [3, 2]]
    """
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    sums = [0.0] * num_shares
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        smallest = sums.index(min(sums))
        shares[smallest].append(place)
        sums[smallest] += costs[place]
    return shares
