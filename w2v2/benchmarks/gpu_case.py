"""Case gpu: the fraction of a device's speed that extraction and training use, and the causes of the rest."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
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
from w2v2.benchmarks.device_profile import wait_for
from w2v2.benchmarks.encoders import ForwardFlops, clip_flops, encoder_folder
from w2v2.benchmarks.measured_device import NUM_WARM, Device, seconds_of
from w2v2.benchmarks.processes import in_new_process
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, alternate
from w2v2.benchmarks.train_case import noise
from w2v2.benchmarks.transformers_trainer import LabelledClips
from w2v2.benchmarks.uncached_training import clip_set, features_of
from w2v2.config.data import AudioConfig
from w2v2.config.extract_embeddings import VectorConfig
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.config.resources import Precision
from w2v2.features.batches import ClipSet, batches_by_budget
from w2v2.inference.embedding import encoder_config, pooled_vectors
from w2v2.models.classifier import Classifier, trainable_copy
from w2v2.models.device import padded_budget
from w2v2.models.frame_convolution import patch_products
from w2v2.models.pretrained import load_encoder
from w2v2.training import trainer

Trained = Literal["all", "no_conv", "last"]
PARTS: dict[Trained, str] = {
    "all": "training everything",
    "no_conv": "training everything but the convolutions",
    "last": "training the last layers",
}
WANTED = {"extraction": 0.40, "training": 0.35}
NUM_STARTS = 12
"""Passes over one short clip, those before the timed ones included."""
SHORT_SAMPLES = SAMPLE_RATE // 2
BACKWARD = 2
"""A backward pass has about twice the products of its forward pass: for the gradients of the inputs and of the
weights."""


def gpu(config: BenchmarkConfig, scratch: Path) -> Iterator[CaseResult]:
    """Seconds of extraction and training, their fractions of the ceiling of matrix products, and the largest losses.

    Yields each part of the case as soon as it is measured, so that an interruption does not lose the earlier parts.
    """
    torch.set_num_threads(config.threads)
    folder = encoder_folder(config.encoder, scratch / "encoder", seed=config.seed)
    lengths_s = {
        "RAVDESS's lengths": synthetic_clips.ravdess_lengths_s(config.gpu.num_clips, seed=config.seed),
        "heavy-tailed lengths": synthetic_clips.heavy_lengths_s(config.gpu.num_clips, seed=config.seed),
    }
    clips = {part: noise(lengths, seed=config.seed) for part, lengths in lengths_s.items()}
    device = Device.of(config)
    yield device.note()
    extractions = []
    for part, labelled in clips.items():
        extractions.append(_extraction(device, folder, part, labelled))
        yield extractions[-1]
    yield _decoding(device, extractions[0])
    yield _starting(device, folder)
    for trained in PARTS:
        yield _training(device, folder, trained, clips["RAVDESS's lengths"])
    yield _first_convolution(device, folder)
    yield _sharing(device, folder)


# -- extraction


def _extraction(device: Device, folder: str, part: str, clips: LabelledClips) -> CaseResult:
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


def _padding_note(device: torch.device, part: str, clips: LabelledClips) -> str:
    """The fraction of padding in the batches, which counts as part of the loss."""
    lengths = np.array([len(waveform) for waveform in clips.waveforms])
    batches = batches_by_budget(lengths, max_padded=padded_budget(device))
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return f"extraction, {part}: {1 - lengths.sum() / padded:.1%} of {len(batches)} batches is padding"


def _lengths_s(clips: LabelledClips) -> Float[np.ndarray, " clips"]:
    return np.array([len(waveform) / SAMPLE_RATE for waveform in clips.waveforms])


def _flops(folder: str, lengths_s: Float[np.ndarray, " clips"]) -> list[ForwardFlops]:
    architecture = AutoConfig.from_pretrained(folder)
    return [clip_flops(architecture, float(length_s)) for length_s in lengths_s]


def _starting(device: Device, folder: str) -> CaseResult:
    """The seconds of the program for a layer and for a batch, measured on a batch that is too short to keep a GPU busy."""
    num_layers = AutoConfig.from_pretrained(folder).num_hidden_layers
    clip = [np.random.default_rng(device.config.seed).standard_normal(SHORT_SAMPLES, dtype=np.float32)]

    def pass_s(layer: int) -> float:
        encoder = load_encoder(
            encoder_config(VectorConfig(name=folder, layers=layer)), seed=device.config.seed
        )
        seconds = []
        for _ in range(NUM_STARTS):
            started = time.perf_counter()
            pooled_vectors(encoder, clip, pooling="mean", precision=device.precision)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[NUM_WARM:])

    few_s, all_s = pass_s(1), pass_s(num_layers)
    by_layer_s = (all_s - few_s) / max(1, num_layers - 1)
    part, numbers = "starting", {"us a layer": 1e6 * by_layer_s, "us a batch": 1e6 * all_s}
    return CaseResult(
        case="gpu",
        agreements=[
            Agreement(part=part, side=OURS, what=measure, value=value) for measure, value in numbers.items()
        ],
        notes=[
            f"the program takes {1e6 * by_layer_s:,.0f} us to start a layer and {1e3 * all_s:.3g} ms for a batch: a GPU that "
            "computes a batch in less waits for it"
        ],
    )


# -- training


def _training(device: Device, folder: str, trained: Trained, clips: LabelledClips) -> CaseResult:
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
        cls,
        config: BenchmarkConfig,
        folder: str,
        trained: Trained,
        clips: LabelledClips,
        *,
        precision: Precision,
    ) -> "_Training":
        """The training of a new model on all of the clips."""
        last = config.gpu.num_last_layers
        encoder = load_encoder(
            EncoderConfig(name=folder, train=trained, num_last_layers=last), seed=config.seed
        )
        train = clip_set(clips, clips.folds == 0)
        if trained != "all":
            train = features_of(encoder, train)
        head = HeadConfig(dropout=0.0)
        model = Classifier(trainable_copy(encoder), head, groups=[clips.num_classes])
        return cls(config=config, model=model, train=train, precision=precision)

    def epoch(self) -> None:
        """Train for one epoch."""
        trainer.train(
            self.model,
            self.train,
            optim=OptimConfig(learning_rate=1e-6, batch_size=self.config.gpu.batch_size),
            training=TrainingConfig(num_epochs=1),
            precision=self.precision,
            seed=self.config.seed,
        )


# -- parts


def _first_convolution(device: Device, folder: str) -> CaseResult:
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
    comparison = seconds_of(part, rounds, 10 * num_clips * samples / SAMPLE_RATE)
    return CaseResult(case="gpu", comparisons=[comparison], agreements=[difference])


def _sharing(device: Device, folder: str) -> CaseResult:
    """Whether trainings of the last layers that share the device, as folds do by --resources.gpus_per_worker, do more together."""
    number = device.config.gpu.num_processes
    torch.cuda.empty_cache()  # for the others; does nothing without a GPU
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


def _decoding(device: Device, extraction: CaseResult) -> CaseResult:
    """The number of cores for decoding that keep up with the extraction."""
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
        comparisons=[seconds_of("decoding of 48 kHz wav on one core", rounds, 20 * 3.7)],
        notes=[
            f"one core decodes {per_core:,.0f} s of audio a second, the device encodes {per_device:,.0f}: "
            f"cores needed to keep it busy: {math.ceil(per_device / per_core)}"
        ],
    )
