"""Work divided among forked processes: results in order, errors as they are, and helpers that are killed."""

import multiprocessing
import os
import signal

import pytest

from w2v2.search.side_by_side import SideBySide, divided


def square(number: int) -> tuple[int, int]:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number, os.getpid()


@pytest.fixture
def pool():
    return SideBySide(square, helpers=2)


def test_every_share_has_a_process_of_its_own(pool):
    assert pool.num_shares == 3
    for shares in ([[1, 2], [3], [4, 5]], [[6], [7], [8]], [[9]], [[], [1]]):
        results = pool.run(shares)
        assert [[value for value, _ in share] for share in results] == [
            [number**2 for number in share] for share in shares
        ]
        processes = [{process for _, process in share} for share in results if share]
        assert len(set.union(*processes)) == len(processes)


def test_an_error_is_raised_and_the_next_work_is_done(pool):
    with pytest.raises(ValueError, match="-3 is negative"):
        pool.run([[1], [-3], [2]])
    assert [value for [(value, _)] in pool.run([[1], [2], [3]])] == [1, 4, 9]


def test_the_share_of_a_killed_helper_is_computed_here(pool):
    (_, [(_, helper)], _) = pool.run([[1], [2], [3]])
    os.kill(helper, signal.SIGKILL)
    for _ in range(2):
        _, second, third = pool.run([[1], [2], [3]])
        assert second == [(4, os.getpid())] and third[0][1] != os.getpid()


def test_helpers_end_when_it_is_closed(pool):
    (_, [(_, helper)], _) = pool.run([[1], [2], [3]])
    pool.close()
    assert pool.num_shares == 1
    ended = next(child for child in multiprocessing.active_children() if child.pid == helper)
    ended.join(timeout=20)
    assert ended.exitcode == 0


def test_shares_are_about_as_large_as_each_other():
    assert divided([150, 75, 38], 2) == [[0], [1, 2]]
    assert divided([1, 1, 1, 1], 2) == [[0, 2], [1, 3]]
    assert divided([5], 3) == [[0], [], []]
    shares = divided([float(number) for number in range(1, 20)], 4)
    assert sorted(place for share in shares for place in share) == list(range(19))
    sums = [sum(place + 1 for place in share) for share in shares]
    assert max(sums) - min(sums) <= 3
