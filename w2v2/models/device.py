"""The device of forward passes, and how much audio goes through at once."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from w2v2.audio.decoding import SAMPLE_RATE

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
NUM_THREADS = 3
"""Threads that prepare batches for a GPU."""
PASS_S = {"cpu": 8.0, "cuda": 240.0}
"""Seconds of audio in one forward pass, summed over its clips, that keep a device busy."""
PASS_S_PER_GB = 10.0
"""Seconds of audio for each 10^9 bytes of a GPU's memory, up to twice PASS_S: with less, a fast GPU waits for the
program."""


def select_device() -> torch.device:
    """The GPU if this process has one, else the CPU.

    Disables for this process TF32 in cuDNN, so that convolutions in float32 match those of the CPU, and cuDNN's attention,
    which plans for a second at every new length. Asks torch for memory that grows in place, as lengths vary.
    """
    # torch reads it when it first takes memory.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device("cuda")


def padded_budget(device: torch.device, batch_s: float = 0.0) -> int:
    """Samples (16 kHz), padding included, of one forward pass: batch_s seconds; 0 is a default for the device."""
    return round(SAMPLE_RATE * (batch_s or _pass_s(device)))


def _pass_s(device: torch.device) -> float:
    seconds = PASS_S[device.type]
    if device.type == "cpu" or not torch.cuda.is_available():
        return seconds
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(seconds, min(2 * seconds, PASS_S_PER_GB * memory / 1e9))


def on_device(device: torch.device, *inputs: Shaped[Tensor, "..."] | None) -> list[Tensor]:
    """A model's inputs, features first, on the device; lengths, the second, stay on the CPU, which computes sizes from them."""
    given = [tensor for tensor in inputs if tensor is not None]
    return [tensor if place == 1 else to_device(tensor, device) for place, tensor in enumerate(given)]


def to_device(tensor: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """The tensor on the device; a GPU copies it without blocking the program."""
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """The tensor in pinned memory, which a GPU copies by itself; unchanged on a CPU."""
    if device.type != "cuda" or tensor.device.type != "cpu" or tensor.is_pinned():
        return tensor
    return tensor.pin_memory()


def fetched(tensor: Shaped[Tensor, "..."]) -> Callable[[], Shaped[Tensor, "..."]]:
    """A function that returns the tensor on the CPU; a GPU begins to copy it now, and computes meanwhile."""
    if tensor.device.type == "cpu":
        return lambda: tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> Shaped[Tensor, "..."]:
        copied.synchronize()
        return copy

    return wait


def prepared_ahead(
    prepare: Callable[[Item], Prepared], items: Iterable[Item], device: torch.device
) -> Iterator[Prepared]:
    """prepare(item) of each item in order; for a GPU some are prepared while it computes, by threads."""
    return in_threads(prepare, items, num_threads=1 if device.type == "cpu" else NUM_THREADS)


def in_threads(
    function: Callable[[Item], Prepared], items: Iterable[Item], *, num_threads: int
) -> Iterator[Prepared]:
    """function(item) of each item in order; several threads work on the next ones, 1 is the caller's own thread."""
    if num_threads == 1:
        yield from map(function, items)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(num_threads) as pool:
        # One item more than threads, so that no thread is idle while the first result is awaited.
        ahead = deque(pool.submit(function, item) for item in itertools.islice(remaining, num_threads + 1))
        while ahead:
            ready = ahead.popleft().result()
            ahead.extend(pool.submit(function, item) for item in itertools.islice(remaining, 1))
            yield ready
