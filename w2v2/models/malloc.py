"""Settings of glibc's malloc that keep freed memory in the process: fewer page faults, the same results."""

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator

# mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
KEEP_BYTES = 2**31 - 1
# Where glibc's own adjustment of the two thresholds ends, once large arrays have been freed.
USUAL_TRIM_BYTES, USUAL_MMAP_BYTES, USUAL_NUM_MMAPS = 2**26, 2**25, 65536

_lock = threading.Lock()
_num_inside = 0
"""Blocks of malloc_keeps_freed_memory that are open, of all threads: the settings are those of the process."""


@contextlib.contextmanager
def malloc_keeps_freed_memory() -> Iterator[None]:
    """A block during which freed memory stays with the process; the last such block to end returns it to the system.

    Blocks may be nested, run in several threads, and be used as decorators. A no-op without glibc. glibc's settings
    cannot be read, so afterwards they are set to the values in the environment (mallopt(3): MALLOC_TRIM_THRESHOLD_,
    MALLOC_MMAP_THRESHOLD_, MALLOC_MMAP_MAX_, or glibc.malloc.* in GLIBC_TUNABLES), else what glibc usually has by then.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    _enter(libc)
    try:
        yield
    finally:
        _leave(libc)


def _enter(libc: ctypes.CDLL) -> None:
    global _num_inside
    with _lock:
        if _num_inside == 0:
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
        _num_inside += 1


def _leave(libc: ctypes.CDLL) -> None:
    global _num_inside
    with _lock:
        _num_inside -= 1
        if _num_inside == 0:
            libc.mallopt(M_MMAP_MAX, _setting("mmap_max", USUAL_NUM_MMAPS))
            libc.mallopt(M_MMAP_THRESHOLD, _setting("mmap_threshold", USUAL_MMAP_BYTES))
            libc.mallopt(M_TRIM_THRESHOLD, _setting("trim_threshold", USUAL_TRIM_BYTES))
            libc.malloc_trim(0)


def _setting(name: str, usual: int) -> int:
    """The value of a malloc setting in the environment, else glibc's usual value."""
    tunables = dict(part.partition("=")[::2] for part in os.environ.get("GLIBC_TUNABLES", "").split(":"))
    for text in (tunables.get(f"glibc.malloc.{name}"), os.environ.get(f"MALLOC_{name.upper()}_")):
        with contextlib.suppress(ValueError):
            if text:
                return int(text, 0)
    return usual


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
