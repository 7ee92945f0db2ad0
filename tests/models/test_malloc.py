"""Memory that is kept between batches: fewer page faults, the same numbers, and given back at the end."""

import functools
import multiprocessing
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from w2v2.models import malloc
from w2v2.models.malloc import malloc_keeps_freed_memory

pytestmark = pytest.mark.skipif(
    malloc._glibc() is None, reason="malloc_keeps_freed_memory does nothing without glibc"
)
NUM_BYTES = 2**27


def in_new_process(test: Callable[[], None]) -> Callable[[], None]:
    """A test that runs in a process of its own.

    The memory that earlier tests of a process have freed decides whether a large array is mapped anew: a free block that is
    large enough is used again with any setting.
    """

    @functools.wraps(test)
    def run() -> None:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(_call, test.__name__).result()

    return run


def _call(name: str) -> None:
    globals()[name].__wrapped__()


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def batch() -> float:
    """What a large activation costs: made, filled, freed."""
    return float(np.full(NUM_BYTES // 8, 1.0).sum())


def faults_of(num_batches: int) -> int:
    batch()
    before = page_faults()
    for _ in range(num_batches):
        assert batch() == NUM_BYTES / 8
    return page_faults() - before


@in_new_process
def test_large_arrays_are_not_asked_of_the_system_anew():
    without = faults_of(4)
    with malloc_keeps_freed_memory():
        inside = faults_of(4)
    assert inside < without / 10
    assert faults_of(4) > without / 2  # and as before afterwards


@in_new_process
def test_memory_goes_back_at_the_end():
    with malloc_keeps_freed_memory():
        batch()
        inside = resident_bytes()
    assert inside - resident_bytes() > NUM_BYTES // 2


@in_new_process
def test_nested_it_ends_with_the_outermost():
    without = faults_of(4)
    with malloc_keeps_freed_memory():
        with malloc_keeps_freed_memory():
            batch()
        assert faults_of(4) < without / 2


@in_new_process
def test_a_failure_inside_ends_it_too():
    without = faults_of(4)
    with pytest.raises(ZeroDivisionError), malloc_keeps_freed_memory():
        np.ones(NUM_BYTES // 8)
        raise ZeroDivisionError
    assert faults_of(4) > without / 2


@in_new_process
def test_it_lasts_until_the_last_thread_is_out():
    """The first thread to enter leaves first; memory must still be kept for the other."""
    without = faults_of(4)
    first_out = threading.Event()
    entered = threading.Event()

    def first() -> None:
        with malloc_keeps_freed_memory():
            entered.set()
            assert first_out.wait(timeout=60)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(timeout=60)
    with malloc_keeps_freed_memory():
        first_out.set()
        thread.join()
        assert faults_of(4) < without / 2
    assert malloc._num_inside == 0


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, 7),
        ({"MALLOC_MMAP_THRESHOLD_": "4096"}, 4096),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.malloc.mmap_threshold=0x2000"}, 8192),
        ({"GLIBC_TUNABLES": "nonsense"}, 7),
        ({"MALLOC_MMAP_THRESHOLD_": "much"}, 7),
    ],
)
def test_settings_of_the_environment_are_those_of_afterwards(monkeypatch, environment, expected):
    for name in ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert malloc._setting("mmap_threshold", 7) == expected
