"""Measurements of a device: its ceiling (FLOP/s of large matrix products), the fraction that a computation reaches, and the losses."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.device_profile import profiled, wait_for
from w2v2.benchmarks.encoders import matrix_ceiling
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, Rounds, alternate
from w2v2.config.resources import Precision
from w2v2.models.device import select_device

NUM_WARM = 2
"""Repetitions before the timed ones."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """The measured device, and the settings of the measurement."""

    config: BenchmarkConfig
    device: torch.device
    precision: Precision
    ceiling: float
    """FLOP/s of large matrix products."""

    @classmethod
    def of(cls, config: BenchmarkConfig) -> "Device":
        """The GPU if this machine has one, else the CPU; its ceiling is measured."""
        device = select_device()
        auto: Precision = "bf16" if device.type == "cuda" else "float32"
        precision = auto if config.gpu.precision == "auto" else config.gpu.precision
        return cls(
            config=config, device=device, precision=precision, ceiling=matrix_ceiling(device, precision)
        )

    def note(self) -> CaseResult:
        """A result with one note: the device, its precision and its ceiling."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"
        return CaseResult(
            case="gpu", notes=[f"{name}, {self.precision}: ceiling {self.ceiling / 1e12:.3g} TFLOP/s"]
        )

    def measure(
        self, part: str, compute: Callable[[], object], *, flops: float, audio_s: float, wanted: float
    ) -> CaseResult:
        """The seconds of a computation after NUM_WARM repetitions, its fraction of the ceiling, and its largest loss."""

        def whole(number: int) -> None:
            compute()
            wait_for(self.device)

        for _ in range(NUM_WARM):  # pay for memory and for the choice of kernels
            whole(-1)
        rounds = alternate({OURS: whole}, rounds=self.config.rounds_of("gpu"), what=f"gpu, {part}")
        seconds, ideal_s = statistics.median(rounds.seconds[OURS]), flops / self.ceiling
        profile = profiled(compute, device=self.device, seconds=seconds)
        losses = profile.losses(ideal_s)
        largest = max(losses, key=lambda cause: losses[cause])
        reached = ideal_s / seconds
        numbers = {
            "fraction of the ceiling": reached,
            **{f"share of the seconds: {kind}": share for kind, share in profile.shares.items()},
        }
        return CaseResult(
            case="gpu",
            comparisons=[seconds_of(part, rounds, audio_s)],
            agreements=[
                Agreement(part=part, side=OURS, what=measure, value=value)
                for measure, value in numbers.items()
            ],
            notes=[
                f"{part}: {reached:.0%} of the ceiling, wanted {wanted:.0%}: {'reached' if reached >= wanted else 'MISSED'}; "
                f"largest loss: {largest}, {losses[largest]:.0%} of the seconds"
            ],
        )


def seconds_of(part: str, rounds: Rounds, audio_s: float) -> Comparison:
    """The seconds of each round as a Comparison, for audio_s seconds of audio."""
    return Comparison(
        part=part,
        seconds=rounds.seconds,
        cpu_seconds=rounds.cpu_seconds,
        amount=audio_s,
        unit="s of audio",
    )
