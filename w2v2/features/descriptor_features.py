"""Hand-made features computed once per clip, cached as encoder features are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from w2v2.audio.decoding import AudioError
from w2v2.audio.descriptors import cache_key, describe
from w2v2.config.data import AudioConfig, CacheConfig, Descriptor
from w2v2.features.cache import FeatureCache
from w2v2.features.preparation import Waveforms, prepare
from w2v2.features.requests import ClipFeatures, Request

Vector = Float[np.ndarray, " descriptors"]


@dataclass(frozen=True, kw_only=True)
class DescribedClip:
    """A clip and its hand-made features; none where the clip cannot be used."""

    prepared: ClipFeatures
    values: Vector | None = None


@dataclass(frozen=True, kw_only=True)
class DescriptorFeatures:
    """One kind of hand-made features."""

    kind: Descriptor
    cache: FeatureCache
    min_samples: int = 0
    max_s: float = math.inf
    num_forwards: int = 0

    def compute(self, waveforms: Waveforms) -> dict[str, Vector | AudioError]:
        """Each waveform's features, or the error why it has none, by digest."""
        return {digest: self._describe(waveform) for digest, waveform in waveforms.items()}

    def _describe(self, waveform: Float[np.ndarray, " samples"]) -> Vector | AudioError:
        try:
            return describe(waveform, [self.kind])
        except AudioError as error:
            return error


def descriptor_cache(kind: Descriptor, cache: CacheConfig) -> FeatureCache:
    """The cache of one kind of features, always in float32: half precision has too few digits for Hz and dB."""
    return FeatureCache(replace(cache, dtype="float32"), cache_key(kind))


def prepare_descriptors(
    requests: Sequence[Request],
    *,
    kinds: Sequence[Descriptor],
    audio: AudioConfig,
    cache: CacheConfig,
    num_readers: int,
) -> list[DescribedClip]:
    """Each clip's features, in order: read and computed only where the file is new or an entry is missing."""
    caches = [descriptor_cache(kind, cache) for kind in kinds]
    features = [
        DescriptorFeatures(kind=kind, cache=kind_cache)
        for kind, kind_cache in zip(kinds, caches, strict=True)
    ]
    clips = prepare(requests, kinds=features, audio=audio, num_readers=num_readers)
    return [
        DescribedClip(prepared=clip, values=None if clip.reject else _values(clip.audio_digest, caches))
        for clip in clips
    ]


def _values(digest: str, caches: Sequence[FeatureCache]) -> Vector:
    return np.concatenate([np.load(cache.path(digest)) for cache in caches])
