"""The encoder that both sides of a benchmark load, and what its arithmetic costs."""

import copy
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
from transformers.utils import logging as transformers_logging

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.errors import UserError
from w2v2.models.onednn_linear import use_fastest_linear
from w2v2.models.pretrained import tiny_config

CEILING_SIZE = {"cpu": 2048, "cuda": 8192}


def base_config() -> Wav2Vec2Config:
    """wav2vec2-base's geometry without dropout, layer drop and SpecAugment.

    Nothing random is left in training, so losses of two programs can be compared; and no side saves work by
    dropping layers.
    """
    return Wav2Vec2Config(
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
    )


def encoder_folder(name: str, folder: Path, *, seed: int) -> str:
    """A name for from_pretrained: 'base' and 'tiny' are made with random weights in `folder`, other names are returned."""
    match name:
        case "base":
            config = base_config()
        case "tiny":
            config = tiny_config()
            config.apply_spec_augment = False
        case _:
            return name
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return str(folder)


def forward_flops(folder: str, lengths_s: Iterable[float]) -> float:
    """Floating-point operations of single-clip forwards, 2 a multiply-add: matrix products and convolutions."""
    config = AutoConfig.from_pretrained(folder)
    return sum(flops.total for flops in (clip_flops(config, length_s) for length_s in lengths_s))


@dataclass(frozen=True, kw_only=True)
class ForwardFlops:
    """Floating-point operations of a clip's forward pass, 2 a multiply-add, by part of the encoder."""

    convolutions: float
    """The convolutions over the waveform, before the cut of `encoder.train: no_conv`."""
    entry: float
    """The projection and the positional convolution before the first layer."""
    linear: float
    """Linear parts of all layers."""
    attention: float
    """Products of all layers whose size grows with the square of the length."""

    @property
    def total(self) -> float:
        """Operations of the whole encoder."""
        return self.convolutions + self.entry + self.linear + self.attention


def clip_flops(config: PretrainedConfig, length_s: float) -> ForwardFlops:
    """The operations of one clip."""
    convolutions, channels, frames = 0.0, 1, round(length_s * SAMPLE_RATE)
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
        convolutions += 2 * frames * kernel * channels * width
        channels = width
    dim, inner = config.hidden_size, config.intermediate_size
    positions = config.num_conv_pos_embeddings * dim * dim / config.num_conv_pos_embedding_groups
    return ForwardFlops(
        convolutions=convolutions,
        entry=2 * frames * (channels * dim + positions),
        linear=config.num_hidden_layers * 2 * frames * (4 * dim * dim + 2 * dim * inner),
        attention=config.num_hidden_layers * 2 * 2 * frames * frames * dim,
    )


def matrix_ceiling(device: torch.device, precision: str) -> float:
    """FLOP/s of large square matrix products on this device, measured: the median of five of the fastest way."""
    size = CEILING_SIZE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.randn(size, size, device=device, dtype=dtype)
    layer = nn.Linear(size, size, bias=False, device=device, dtype=dtype)
    faster = copy.deepcopy(layer)
    use_fastest_linear(faster)
    with torch.no_grad():
        return 2 * size**3 / min(_median_seconds(product, left) for product in (layer, faster))


def _median_seconds(product: nn.Module, left: Tensor) -> float:
    times = []
    for _ in range(7):
        started = time.perf_counter()
        product(left)[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def layer_normalised(encoder: str, case: str) -> Wav2Vec2Config:
    """The configuration of an encoder without group normalisation and dropout. Raises UserError for others than base and tiny."""
    silent: dict[str, Any] = dict(
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
    )
    match encoder:
        case "base":
            return Wav2Vec2Config(
                **silent, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True
            )
        case "tiny":
            return tiny_config()
        case _:
            raise UserError(f"encoder must be base or tiny for the case {case}, got {encoder}")
