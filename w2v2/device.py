"""Where forward passes run, and how much audio goes through at once."""

import torch
from jaxtyping import Shaped
from torch import Tensor

SAMPLES_PER_S = 16_000
PASS_S = {"cpu": 8.0, "cuda": 240.0}
"""Seconds of audio, of all clips together, in one forward pass that keeps a device busy."""


def compute_device() -> torch.device:
    """The GPU, where there is one. float32 means float32 there, as torch's convolutions by default do not."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")


def padded_budget(device: torch.device, batch_s: float = 0.0) -> int:
    """Samples, padding included, of one forward pass: batch_s seconds of them, or else what suits the device."""
    return round(SAMPLES_PER_S * (batch_s or PASS_S[device.type]))


def to_device(tensor: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """The tensor on the device; a GPU fetches it while the program goes on."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
