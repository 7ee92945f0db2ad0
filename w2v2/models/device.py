"""Where forward passes run, and how much audio goes through at once."""

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from w2v2.audio.decoding import SAMPLE_RATE

PASS_S = {"cpu": 8.0, "cuda": 240.0}
"""Seconds of audio, of all clips together, in one forward pass that keeps a device busy."""


def select_device() -> torch.device:
    """The GPU, where there is one, else the CPU.

    Disables TF32 in cuDNN for this process, so that convolutions in float32 match those of the CPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")


def padded_budget(device: torch.device, batch_s: float = 0.0) -> int:
    """Samples, padding included, of one forward pass: batch_s seconds of them, or else what suits the device."""
    return round(SAMPLE_RATE * (batch_s or PASS_S[device.type]))


def to_device(tensor: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """The tensor on the device; a GPU copies it without blocking the program."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


# mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
KEEP_BYTES = 2**31 - 1
# Where glibc's own adjustment of the two ends, once large arrays have been freed.
USUAL_TRIM_BYTES, USUAL_MMAP_BYTES, USUAL_NUM_MMAPS = 2**26, 2**25, 65536


_inside: list[bool] = []


@contextlib.contextmanager
def malloc_keeps_freed_memory() -> Iterator[None]:
    """Inside, freed memory stays with the process; at the end it goes back to the system. A no-op without glibc.

    May be nested, and used as a decorator.
    """
    libc = _glibc()
    if libc is None or _inside:
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
    _inside.append(True)
    try:
        yield
    finally:
        _inside.pop()
        libc.mallopt(M_MMAP_MAX, USUAL_NUM_MMAPS)
        libc.mallopt(M_MMAP_THRESHOLD, USUAL_MMAP_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, USUAL_TRIM_BYTES)
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
