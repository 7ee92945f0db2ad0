"""Case gpu: how much of a device's speed extraction and training use, and what takes the rest."""

import math
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig

from w2v2.audio.decoding import SAMPLE_RATE, load_waveform
from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.decode_case import encoded
from w2v2.benchmarks.device_profile import profiled, wait_for
from w2v2.benchmarks.encoders import ForwardFlops, clip_flops, encoder_folder, matrix_ceiling
from w2v2.benchmarks.processes import in_new_process
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, Rounds, alternate
from w2v2.benchmarks.train_case import noise
from w2v2.benchmarks.transformers_trainer import Labelled
from w2v2.benchmarks.uncached_training import clip_set, features_of
from w2v2.config.data import AudioConfig
from w2v2.config.extract_embeddings import VectorConfig
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.config.resources import Precision
from w2v2.features.batches import ClipSet, batches_by_budget
from w2v2.inference.embedding import encoder_config, pooled_vectors
from w2v2.models.classifier import Classifier, fresh
from w2v2.models.device import padded_budget, select_device
from w2v2.models.frame_convolution import patch_products
from w2v2.models.pretrained import load_encoder
from w2v2.training.trainer import fit

Trained = Literal["all", "no_conv", "last"]
PARTS: dict[Trained, str] = {
    "all": "training everything",
    "no_conv": "training everything but the convolutions",
    "last": "training the last layers",
}
WANTED = {"extraction": 0.40, "training": 0.35}
NUM_WARM = 2
"""Repetitions before those that are timed."""
BACKWARD = 2
"""A backward pass has about twice the products of its forward pass: those of the inputs and those of the weights."""


def gpu(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Seconds of extraction and training, their fractions of the ceiling of matrix products, and the largest losses."""
    torch.set_num_threads(config.threads)
    folder = encoder_folder(config.encoder, scratch / "encoder", seed=config.seed)
    lengths_s = {
        "RAVDESS's lengths": synthetic_clips.ravdess_lengths_s(config.gpu.num_clips, seed=config.seed),
        "heavy-tailed lengths": synthetic_clips.heavy_lengths_s(config.gpu.num_clips, seed=config.seed),
    }
    clips = {part: noise(lengths, seed=config.seed) for part, lengths in lengths_s.items()}
    device = _Device.of(config)
    results = [device.note(), *(_extraction(device, folder, part, clips[part]) for part in clips)]
    results += [_training(device, folder, trained, clips["RAVDESS's lengths"]) for trained in PARTS]
    results += [_first_convolution(device, folder), _sharing(device, folder), _decoding(device, results[1])]
    return CaseResult(
        case="gpu",
        comparisons=[comparison for result in results for comparison in result.comparisons],
        agreements=[agreement for result in results for agreement in result.agreements],
        notes=[note for result in results for note in result.notes],
    )


@dataclass(frozen=True, kw_only=True)
class _Device:
    """The device that is measured, and how."""

    config: BenchmarkConfig
    device: torch.device
    precision: Precision
    ceiling: float
    """FLOP/s of large matrix products."""

    @classmethod
    def of(cls, config: BenchmarkConfig) -> "_Device":
        """The GPU if this machine has one, else the CPU; its ceiling is measured."""
        device = select_device()
        auto: Precision = "bf16" if device.type == "cuda" else "float32"
        precision = auto if config.gpu.precision == "auto" else config.gpu.precision
        return cls(
            config=config, device=device, precision=precision, ceiling=matrix_ceiling(device, precision)
        )

    def note(self) -> CaseResult:
        """What is measured on."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"
        return CaseResult(
            case="gpu", notes=[f"{name}, {self.precision}: ceiling {self.ceiling / 1e12:.3g} TFLOP/s"]
        )

    def measure(
        self, part: str, compute: Callable[[], object], *, flops: float, audio_s: float, wanted: float
    ) -> CaseResult:
        """The seconds of a computation after a first one, its fraction of the ceiling, and its losses, the largest named."""

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
            comparisons=[_seconds(part, rounds, audio_s)],
            agreements=[
                Agreement(part=part, side=OURS, what=measure, value=value)
                for measure, value in numbers.items()
            ],
            notes=[
                f"{part}: {reached:.0%} of the ceiling, wanted {wanted:.0%}: {'reached' if reached >= wanted else 'MISSED'}; "
                f"largest loss: {largest}, {losses[largest]:.0%} of the seconds"
            ],
        )


def _seconds(part: str, rounds: Rounds, audio_s: float) -> Comparison:
    return Comparison(
        part=part,
        seconds=rounds.seconds,
        cpu_seconds=rounds.cpu_seconds,
        amount=audio_s,
        unit="s of audio",
    )


# -- extraction


def _extraction(device: _Device, folder: str, part: str, clips: Labelled) -> CaseResult:
    encoder = load_encoder(encoder_config(VectorConfig(name=folder)), seed=device.config.seed)

    def compute() -> object:
        return pooled_vectors(encoder, clips.waveforms, pooling="mean", precision=device.precision)

    lengths_s = _lengths_s(clips)
    result = device.measure(
        f"extraction, {part}",
        compute,
        flops=sum(flops.total for flops in _flops(folder, lengths_s)),
        audio_s=float(lengths_s.sum()),
        wanted=WANTED["extraction"],
    )
    return replace(result, notes=[*result.notes, _padding_note(device.device, part, clips)])


def _padding_note(device: torch.device, part: str, clips: Labelled) -> str:
    """How much of the batches is padding, which counts among what is below the ceiling."""
    lengths = np.array([len(waveform) for waveform in clips.waveforms])
    batches = batches_by_budget(lengths, max_padded=padded_budget(device))
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return f"extraction, {part}: {1 - lengths.sum() / padded:.1%} of {len(batches)} batches is padding"


def _lengths_s(clips: Labelled) -> Float[np.ndarray, " clips"]:
    return np.array([len(waveform) / SAMPLE_RATE for waveform in clips.waveforms])


def _flops(folder: str, lengths_s: Float[np.ndarray, " clips"]) -> list[ForwardFlops]:
    architecture = AutoConfig.from_pretrained(folder)
    return [clip_flops(architecture, float(length_s)) for length_s in lengths_s]


# -- training


def _training(device: _Device, folder: str, trained: Trained, clips: Labelled) -> CaseResult:
    run = _Training.of(device.config, folder, trained, clips, precision=device.precision)
    lengths_s = _lengths_s(clips)
    num_layers = AutoConfig.from_pretrained(folder).num_hidden_layers
    last = min(device.config.gpu.num_last_layers, num_layers)
    flops = [
        trained_flops(flops, trained, last / num_layers if trained == "last" else 1.0)
        for flops in _flops(folder, lengths_s)
    ]
    return device.measure(
        PARTS[trained],
        run.epoch,
        flops=sum(flops),
        audio_s=float(lengths_s.sum()),
        wanted=WANTED["training"],
    )


def trained_flops(flops: ForwardFlops, trained: Trained, layers: float) -> float:
    """Operations of a clip's forward and backward pass after the cut; layers is the fraction of the layers after it."""
    of_layers = layers * (flops.linear + flops.attention)
    before = {"all": flops.convolutions + flops.entry, "no_conv": flops.entry, "last": 0.0}
    return (1 + BACKWARD) * (of_layers + before[trained])


@dataclass(frozen=True, kw_only=True)
class _Training:
    """One epoch of training, which can be repeated; what is frozen is computed before."""

    config: BenchmarkConfig
    model: Classifier
    train: ClipSet
    precision: Precision

    @classmethod
    def of(
        cls, config: BenchmarkConfig, folder: str, trained: Trained, clips: Labelled, *, precision: Precision
    ) -> "_Training":
        """The training of a fresh model on all of the clips."""
        last = config.gpu.num_last_layers
        encoder = load_encoder(
            EncoderConfig(name=folder, train=trained, num_last_layers=last), seed=config.seed
        )
        train = clip_set(clips, clips.folds == 0)
        if trained != "all":
            train = features_of(encoder, train)
        head = HeadConfig(dropout=0.0)
        model = Classifier(fresh(encoder), head, groups=[clips.num_classes])
        return cls(config=config, model=model, train=train, precision=precision)

    def epoch(self) -> None:
        """Train for one epoch."""
        fit(
            self.model,
            self.train,
            optim=OptimConfig(learning_rate=1e-6, batch_size=self.config.gpu.batch_size),
            training=TrainingConfig(num_epochs=1),
            precision=self.precision,
            seed=self.config.seed,
        )


# -- parts


def _first_convolution(device: _Device, folder: str) -> CaseResult:
    """The first convolution with weights for each clip: as a product of matrices, which we use, and as a grouped convolution."""
    architecture = AutoConfig.from_pretrained(folder)
    channels, kernel, stride = (
        architecture.conv_dim[0],
        architecture.conv_kernel[0],
        architecture.conv_stride[0],
    )
    torch.manual_seed(device.config.seed)
    samples = round(3.7 * SAMPLE_RATE)
    num_clips = max(1, padded_budget(device.device) // samples)
    dtype = torch.bfloat16 if device.precision == "bf16" else torch.float32
    waveforms = torch.randn(num_clips, samples, device=device.device, dtype=dtype)
    weights = torch.randn(num_clips, channels, kernel, device=device.device, dtype=dtype)
    shift = torch.randn(num_clips, channels, device=device.device, dtype=dtype)

    def product() -> Tensor:
        return patch_products(waveforms, weights, shift, stride=stride).transpose(1, 2)

    def grouped() -> Tensor:
        flat = weights.flatten(0, 1)[:, None]
        outputs = nn.functional.conv1d(
            waveforms[None], flat, shift.flatten(), stride=stride, groups=num_clips
        )
        return outputs.unflatten(1, (num_clips, channels))[0]

    def timed(compute: Callable[[], Tensor]) -> Callable[[int], None]:
        def repeated(number: int) -> None:
            for _ in range(10):
                compute()
            wait_for(device.device)

        return repeated

    part = "first convolution, 10 times"
    with torch.no_grad():
        apart = float((product() - grouped()).abs().max())
        sides = {OURS: timed(product), "grouped convolution": timed(grouped)}
        rounds = alternate(sides, rounds=device.config.rounds_of("gpu"), what=f"gpu, {part}")
    difference = Agreement(part=part, side="grouped convolution", what="largest difference", value=apart)
    comparison = _seconds(part, rounds, 10 * num_clips * samples / SAMPLE_RATE)
    return CaseResult(case="gpu", comparisons=[comparison], agreements=[difference])


def _sharing(device: _Device, folder: str) -> CaseResult:
    """Whether trainings of the last layers that share the device, as folds do by --resources.gpus_per_worker, do more together."""
    number = device.config.gpu.num_processes
    with ThreadPoolExecutor(number) as pool:
        alone = in_new_process(_epoch_seconds, device.config, folder, device.precision)
        together = list(
            pool.map(
                lambda _: in_new_process(_epoch_seconds, device.config, folder, device.precision),
                range(number),
            )
        )
    gain = number * alone / statistics.mean(together)
    return CaseResult(
        case="gpu",
        agreements=[
            Agreement(part=f"{number} trainings at once", side=OURS, what="work done per second, against one alone", value=gain)
        ],
        notes=[
            f"{number} trainings of the last layers at once do {gain:.2f} times the work per second of one alone "
            f"({alone:.3g} s an epoch alone, {statistics.mean(together):.3g} s together)"
        ],
    )  # fmt: skip


def _epoch_seconds(config: BenchmarkConfig, folder: str, precision: Precision) -> float:
    """The median seconds of an epoch of training the last layers, after a first one."""
    torch.set_num_threads(config.threads)
    lengths_s = synthetic_clips.ravdess_lengths_s(config.gpu.num_clips, seed=config.seed)
    run = _Training.of(config, folder, "last", noise(lengths_s, seed=config.seed), precision=precision)
    run.epoch()
    rounds = alternate({OURS: lambda number: run.epoch()}, rounds=config.rounds_of("gpu"), what="gpu, shared")
    return statistics.median(rounds.seconds[OURS])


def _decoding(device: _Device, extraction: CaseResult) -> CaseResult:
    """How many cores that decode keep up with the extraction."""
    data = encoded("WAV", rate=48_000, channels=1, length_s=3.7, seed=device.config.seed)
    rounds = alternate(
        {OURS: lambda number: [load_waveform(data, AudioConfig()) for _ in range(20)]},
        rounds=device.config.rounds_of("gpu"),
        what="gpu, decoding",
    )
    per_core = 20 * 3.7 / statistics.median(rounds.seconds[OURS])
    (comparison,) = extraction.comparisons
    per_device = comparison.amount / comparison.median(OURS)
    return CaseResult(
        case="gpu",
        comparisons=[_seconds("decoding of 48 kHz wav on one core", rounds, 20 * 3.7)],
        notes=[
            f"one core decodes {per_core:,.0f} s of audio a second, the device encodes {per_device:,.0f}: "
            f"cores needed to keep it busy: {math.ceil(per_device / per_core)}"
        ],
    )
