"""Outputs of an encoder's frozen trunk, computed once per clip and cached by content.

An entry's key is the digest of the waveform (so of the audio and its preprocessing), in a folder named by a digest of
weights, cut and arithmetic. Encoders with the same frozen part share its entries.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from w2v2.audio.waveforms import normalized
from w2v2.config.data import CacheConfig
from w2v2.features.batches import batches_by_budget, collate
from w2v2.features.cache import FeatureCache
from w2v2.features.encoder_info import TRUNK_VERSION
from w2v2.features.preparation import Waveforms
from w2v2.models.device import fetched, on_device, padded_budget, prepared_ahead, select_device
from w2v2.models.encoder import Encoder
from w2v2.models.malloc import malloc_keeps_freed_memory

ARITHMETIC = {"float32": "float32", "bf16": "bfloat16 throughout"}
"""The name of a precision in cache folders; bf16 has a new name since its layers are not normalised in float32 any
more."""


def trunk_key(encoder: Encoder, digest: str, *, cache: CacheConfig, precision: str) -> str:
    """The name of the cache folder: a digest of all that a trunk's output depends on except the audio.

    Hashed by itself and not by config.digest.settings_digest, as caches of earlier versions have these names.
    """
    stage = encoder.cut.stage
    parts: list[object] = [TRUNK_VERSION, stage, encoder.normalize, cache.dtype]
    if encoder.extractor is not None and stage != "waveform":
        parts.append(json.dumps(encoder.extractor.to_dict(), sort_keys=True, default=str))
    if stage != "waveform":
        parts += [digest, ARITHMETIC[precision]]
    if stage in ("layer", "pooled"):
        parts += [encoder.cut.layer, encoder.top if stage == "pooled" else "", encoder.several]
        parts += [encoder.states] if encoder.config.layers else []
    if stage == "pooled":
        parts.append(encoder.config.pooling)
    if encoder.layout:
        parts.append(encoder.layout)
    return f"{encoder.cut}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True)
class TrunkFeatures:
    """The features at an encoder's cut: the output of its frozen trunk, or the waveform if nothing is frozen."""

    encoder: Encoder
    cache: FeatureCache
    """Named by `trunk_key`."""
    precision: str = "float32"

    @property
    def min_samples(self) -> int:
        """Samples (at 16 kHz) of the shortest waveform that gives one frame."""
        return self.encoder.min_samples

    @property
    def max_s(self) -> float:
        """The seconds of audio that the encoder takes."""
        return self.encoder.max_s

    @property
    def num_forwards(self) -> int:
        """Passes through the encoder per clip: 0 for a cut at the waveform, else 1."""
        return 0 if self.encoder.cut.stage == "waveform" else 1

    def compute(self, waveforms: Waveforms) -> dict[str, Float[np.ndarray, "_ ..."]]:
        """Each waveform's features by digest."""
        arrays = [normalized(w) if self.encoder.normalize else w for w in waveforms.values()]
        if self.num_forwards:
            arrays = run_trunk(self.encoder, arrays, precision=self.precision)
        return dict(zip(waveforms, arrays, strict=True))


@malloc_keeps_freed_memory()
def run_trunk(
    encoder: Encoder, waveforms: Sequence[Float[np.ndarray, " _"]], *, precision: str = "float32"
) -> list[Float[np.ndarray, "_ ..."]]:
    """Features of each waveform at the encoder's cut, in the order given."""
    device = select_device()
    encoder = encoder.to(device).eval()
    lengths = np.array([len(w) for w in waveforms], dtype=np.int64)
    results: list[np.ndarray] = [np.empty(0)] * len(waveforms)

    def prepare(batch: Int[np.ndarray, " batch"]) -> tuple[Tensor, Tensor]:
        return collate([waveforms[index] for index in batch])

    def keep(batch: Int[np.ndarray, " batch"], features: Callable[[], Tensor], counts: Tensor) -> None:
        for index, row, count in zip(batch, features().numpy(), counts.tolist(), strict=True):
            results[index] = row.copy() if encoder.cut.stage == "pooled" else row[:count].copy()

    batches = batches_by_budget(lengths, max_padded=padded_budget(device))
    computed: deque[tuple[np.ndarray, Callable[[], Tensor], Tensor]] = deque()
    for batch, inputs in zip(batches, prepared_ahead(prepare, batches, device), strict=True):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            features, num_frames = encoder.trunk(*on_device(device, *inputs))
        computed.append((batch, fetched(features.float()), num_frames))
        if len(computed) > 1:  # a GPU computes this batch while the last one is kept
            keep(*computed.popleft())
    for last in computed:
        keep(*last)
    return results
