"""Memory that is kept between batches: fewer page faults, the same numbers, and given back at the end."""

import resource
from pathlib import Path

import numpy as np
import pytest

from w2v2.models import device
from w2v2.models.device import malloc_keeps_freed_memory

pytestmark = pytest.mark.skipif(
    device._glibc() is None, reason="malloc_keeps_freed_memory does nothing without glibc"
)
NUM_BYTES = 2**27


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


def test_large_arrays_are_not_asked_of_the_system_anew():
    without = faults_of(4)
    with malloc_keeps_freed_memory():
        inside = faults_of(4)
    assert inside < without / 10
    assert faults_of(4) > without / 2  # and as before afterwards


def test_memory_goes_back_at_the_end():
    with malloc_keeps_freed_memory():
        batch()
        inside = resident_bytes()
    assert inside - resident_bytes() > NUM_BYTES // 2


def test_nested_it_ends_with_the_outermost():
    without = faults_of(4)
    with malloc_keeps_freed_memory():
        with malloc_keeps_freed_memory():
            batch()
        assert faults_of(4) < without / 2


def test_a_failure_inside_ends_it_too():
    without = faults_of(4)
    with pytest.raises(ZeroDivisionError), malloc_keeps_freed_memory():
        np.ones(NUM_BYTES // 8)
        raise ZeroDivisionError
    assert faults_of(4) > without / 2
