"""The device of forward passes, and how much audio goes through at once."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from w2v2.audio.decoding import SAMPLE_RATE

PASS_S = {"cpu": 8.0, "cuda": 240.0}
"""Seconds of audio, of all clips together, in one forward pass that keeps a device busy."""


def select_device() -> torch.device:
    """The GPU if this process has one, else the CPU.

    Disables TF32 in cuDNN for this process, so that convolutions in float32 match those of the CPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")


def padded_budget(device: torch.device, batch_s: float = 0.0) -> int:
    """Samples (16 kHz), padding included, of one forward pass: batch_s seconds; 0 is a default for the device."""
    return round(SAMPLE_RATE * (batch_s or PASS_S[device.type]))


def to_device(tensor: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """The tensor on the device; a GPU copies it without blocking the program."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
