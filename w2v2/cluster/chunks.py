"""Items divided into chunks, one per task."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def chunks_of(items: Sequence[T], *, num_at_once: int, size: int = 0) -> list[Sequence[T]]:
    """The items in order as chunks of `size`; 0 makes about four chunks of 8 to 64 items for each of num_at_once workers.

    >>> [len(chunk) for chunk in chunks_of(range(100), num_at_once=2)], [len(chunk) for chunk in chunks_of("abcde", num_at_once=2, size=2)]
    ([13, 13, 13, 13, 13, 13, 13, 9], [2, 2, 1])
    """
    size = size or max(8, min(64, -(-len(items) // (4 * num_at_once))))
    return [items[at : at + size] for at in range(0, len(items), size)]
