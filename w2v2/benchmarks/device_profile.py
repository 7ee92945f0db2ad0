"""Seconds that a device works, by kind of operation, as torch's profiler sees them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

KINDS: dict[str, tuple[str, ...]] = {
    "attention": ("scaled_dot_product", "flash_attention", "efficient_attention"),
    "convolutions": ("convolution", "conv1d", "conv2d", "fft"),
    "matrix products": ("::mm", "::addmm", "::bmm", "::baddbmm", "::matmul", "linear", "_Product"),
    "normalisation": ("_norm",),
    "activations": ("gelu", "relu", "softmax", "dropout", "sigmoid", "tanh"),
    "copies": (
        "copy",
        "cat",
        "clone",
        "fill_",
        "zero",
        "index",
        "Memcpy",
        "Memset",
        "contiguous",
        "pin_memory",
    ),
    "optimizer": ("adam", "_foreach"),
}
"""Parts of operations' names for each kind; an operation belongs to the first kind that matches."""
OTHER, IDLE = "other operations", "idle, waiting for the program"
COMPUTING = ("attention", "convolutions", "matrix products")
"""Kinds whose operations an ideal device would do at its ceiling of matrix products."""


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """The seconds of a computation, by cause."""

    seconds: float
    """Seconds of the computation without the profiler."""
    shares: dict[str, float]
    """The fraction of the seconds by kind, IDLE included; they add up to 1."""

    def losses(self, ideal_s: float) -> dict[str, float]:
        """The fraction of the seconds that each cause takes beyond ideal_s, the seconds at the ceiling of matrix products."""
        computing = sum(self.shares.get(kind, 0.0) for kind in COMPUTING)
        below = f"{', '.join(COMPUTING)} below the ceiling"
        others = {kind: share for kind, share in self.shares.items() if kind not in COMPUTING}
        return {below: max(0.0, computing - ideal_s / self.seconds), **others}


def kind_of(operation: str) -> str:
    """The kind of an operation of torch.

    >>> kind_of("aten::convolution_backward"), kind_of("aten::native_layer_norm"), kind_of("aten::add_")
    ('convolutions', 'normalisation', 'other operations')
    """
    matches = (kind for kind, parts in KINDS.items() if any(part in operation for part in parts))
    return next(matches, OTHER)


def profiled(compute: Callable[[], object], *, device: torch.device, seconds: float) -> DeviceProfile:
    """The profile of a computation that takes so many seconds without a profiler, which slows it down.

    On a GPU the seconds of operations are measured on the GPU, which is idle for the rest. On a CPU the shares of
    operations come from the profiled run.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    started = time.perf_counter()
    with profile(activities=activities) as profiler:
        compute()
        wait_for(device)
    profiled_s = time.perf_counter() - started
    by_kind: dict[str, float] = {}
    for event in profiler.key_averages():
        if (
            event.device_type == DeviceType.CPU
        ):  # a GPU's kernels count once, with the operations that start them
            microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            kind = kind_of(event.key)
            by_kind[kind] = by_kind.get(kind, 0.0) + microseconds / 1e6
    worked = sum(by_kind.values())
    whole = max(seconds if on_gpu else profiled_s, worked)
    shares = {kind: spent / whole for kind, spent in by_kind.items() if spent}
    return DeviceProfile(seconds=seconds, shares={**shares, IDLE: 1 - worked / whole})


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
