"""Preparation of frozen features: computed once per clip and cached by the digest of its waveform.

The kinds are `TrunkFeatures` (outputs of an encoder's frozen part) and `DescriptorFeatures` (hand-made features).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from w2v2.audio.decoding import AudioError, Clip
from w2v2.audio.waveforms import read_clip, waveform_digest
from w2v2.config.data import AudioConfig
from w2v2.data.file_facts import reject_of
from w2v2.errors import Reject
from w2v2.features.cache import FeatureCache
from w2v2.features.packed_vectors import without_packed
from w2v2.features.requests import ClipColumns, ClipFeatures, Request, unchanged_features
from w2v2.storage import files as storage
from w2v2.storage.files import FileInfo, StorageError

CLIPS_PER_LOOKUP = 10_000
"""Clips whose files and cached entries are looked up together."""
Waveforms = Mapping[str, Float[np.ndarray, " _"]]
"""16 kHz waveforms by clip_id or by digest."""


@runtime_checkable
class FeatureKind(Protocol):
    """One kind of frozen features: their cache, and the computation for a waveform."""

    @property
    def cache(self) -> FeatureCache:
        """The cache of this kind of features."""
        ...

    @property
    def min_samples(self) -> int:
        """Samples (at 16 kHz) of the shortest waveform that has features."""
        ...

    @property
    def max_s(self) -> float:
        """The longest waveform that has features, in seconds."""
        ...

    @property
    def num_forwards(self) -> int:
        """Passes through an encoder that one clip takes: 0 or 1."""
        ...

    def compute(self, waveforms: Waveforms) -> Mapping[str, Float[np.ndarray, "_ ..."] | AudioError]:
        """Each waveform's features, or the error why it has none, by digest."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Filled:
    """The result of `_fill`, by digest."""

    num_forwards: dict[str, int]
    """Passes through an encoder, 0 where every entry was in the cache."""
    errors: dict[str, AudioError] = field(default_factory=dict)
    """Waveforms that have no features of some kind."""


def prepare(
    requests: Sequence[Request], *, kinds: Sequence[FeatureKind], audio: AudioConfig, num_readers: int
) -> list[ClipFeatures]:
    """A ClipFeatures for each request, in order, after every kind's cache has its features.

    A clip is read, decoded and computed only where an entry is missing. A clip for which that fails has a reject
    and does not stop the others.
    """
    fingerprints, rejects = _fingerprints(requests, num_readers)
    cached = _cached(requests, fingerprints, [kind.cache for kind in kinds], num_readers)
    unread = [r for r in requests if r.clip_id in fingerprints and r.clip_id not in cached]
    decoded, refused = _decoded(unread, audio, kinds, num_readers)
    rejects |= refused
    digests = {clip_id: waveform_digest(clip.waveform) for clip_id, clip in decoded.items()}
    filled = _fill(
        {digests[clip_id]: clip.waveform for clip_id, clip in decoded.items()},
        kinds,
        num_at_once=num_readers,
    )
    rejects |= {c: filled.errors[digest].reject for c, digest in digests.items() if digest in filled.errors}
    results = cached | {
        clip_id: ClipFeatures(clip_id=clip_id, reject=reject) for clip_id, reject in rejects.items()
    }
    for clip_id in digests.keys() - rejects.keys():
        results[clip_id] = ClipFeatures(
            clip_id=clip_id,
            fingerprint=fingerprints[clip_id],
            audio_digest=digests[clip_id],
            num_samples=len(decoded[clip_id].waveform),
            tolerated=decoded[clip_id].tolerated,
            quality=decoded[clip_id].quality,
        )
    return _with_forwards([results[request.clip_id] for request in requests], filled)


def cached_features(
    requests: ClipColumns[Request], *, caches: Sequence[FeatureCache], num_readers: int
) -> ClipColumns[ClipFeatures] | None:
    """A ClipFeatures for each request, in order, if all caches have all entries and no file has changed; else None."""
    if not all(
        _are_unchanged(requests.table.slice(at, CLIPS_PER_LOOKUP), num_readers)
        for at in range(0, len(requests), CLIPS_PER_LOOKUP)
    ):
        return None
    digests = requests.table["audio_digest"].unique()
    for cache in caches:
        unpacked = without_packed(cache, digests)
        for at in range(0, len(unpacked), CLIPS_PER_LOOKUP):
            portion = unpacked.slice(at, CLIPS_PER_LOOKUP).to_pylist()
            if len(cache.intact(portion, num_at_once=num_readers)) < len(portion):
                return None
    return unchanged_features(requests)


def _are_unchanged(requests: pa.Table, num_readers: int) -> bool:
    """Whether each request's file still has the fingerprint that it had when an earlier run read it."""
    is_listed = pc.is_valid(requests["listed_fingerprint"])
    listed, others = requests.filter(is_listed), requests.filter(pc.invert(is_listed))
    infos = storage.stat_many(others["uri"].to_pylist(), num_at_once=num_readers)
    now = [info.fingerprint if isinstance(info, FileInfo) and not reject_of(info) else "" for info in infos]
    is_same = listed["fingerprint"].equals(listed["listed_fingerprint"])
    return is_same and others["fingerprint"].to_pylist() == now


def _fill(waveforms: Waveforms, kinds: Sequence[FeatureKind], *, num_at_once: int) -> _Filled:
    """Compute and write the features of these waveforms (by digest) that the caches lack."""
    filled = _Filled(num_forwards=dict.fromkeys(waveforms, 0))
    for kind in kinds:
        wanted = waveforms.keys() - filled.errors.keys()
        missing = sorted(wanted - kind.cache.intact(wanted, num_at_once=num_at_once))
        computed = kind.compute({digest: waveforms[digest] for digest in missing})
        arrays: list[tuple[str, np.ndarray]] = []
        for digest, features in computed.items():
            if isinstance(features, AudioError):
                filled.errors[digest] = features
            else:
                filled.num_forwards[digest] += kind.num_forwards
                arrays.append((digest, features))
        kind.cache.write(arrays, num_at_once=num_at_once)
    return filled


def _fingerprints(requests: Sequence[Request], num_readers: int) -> tuple[dict[str, str], dict[str, Reject]]:
    """Fingerprints of the files that can be looked up, and rejects for the others, by clip."""
    fingerprints = {r.clip_id: r.listed_fingerprint for r in requests if r.listed_fingerprint}
    rejects: dict[str, Reject] = {}
    unlisted = [r for r in requests if not r.listed_fingerprint]
    infos = storage.stat_many([r.uri for r in unlisted], num_at_once=num_readers)
    for request, info in zip(unlisted, infos, strict=True):
        if reject := reject_of(info):
            rejects[request.clip_id] = reject
        elif isinstance(info, FileInfo):
            fingerprints[request.clip_id] = info.fingerprint
    return fingerprints, rejects


def _cached(
    requests: Sequence[Request],
    fingerprints: Mapping[str, str],
    caches: Sequence[FeatureCache],
    num_readers: int,
) -> dict[str, ClipFeatures]:
    """Clips whose file has not changed since an earlier run and whose entries are all intact."""
    unchanged = [r for r in requests if r.audio_digest and r.fingerprint == fingerprints.get(r.clip_id)]
    intact = {r.audio_digest for r in unchanged}
    for cache in caches:
        intact &= cache.intact(intact, num_at_once=num_readers)
    return {
        r.clip_id: ClipFeatures(
            clip_id=r.clip_id,
            fingerprint=r.fingerprint,
            audio_digest=r.audio_digest,
            num_samples=r.num_samples,
            tolerated=r.tolerated,
            quality=r.quality,
        )
        for r in unchanged
        if r.audio_digest in intact
    }


def _decoded(
    requests: Sequence[Request], audio: AudioConfig, kinds: Sequence[FeatureKind], num_readers: int
) -> tuple[dict[str, Clip], dict[str, Reject]]:
    """Decoded audio of the clips that can be used, and rejects for the others, by clip."""
    min_samples, max_s = max(kind.min_samples for kind in kinds), min(kind.max_s for kind in kinds)
    decoded: dict[str, Clip] = {}
    rejects: dict[str, Reject] = {}
    bodies = storage.read_many([r.uri for r in requests], num_at_once=num_readers)
    for request, body in zip(requests, bodies, strict=True):
        try:
            decoded[request.clip_id] = read_clip(
                body,
                audio,
                start_s=request.start_s,
                end_s=request.end_s,
                min_samples=min_samples,
                max_s=max_s,
            )
        except (AudioError, StorageError) as error:
            rejects[request.clip_id] = error.reject
    return decoded, rejects


def _with_forwards(prepared: Sequence[ClipFeatures], filled: _Filled) -> list[ClipFeatures]:
    """The clips with num_forwards; where several clips have the same audio, the passes count for the first one."""
    left = dict(filled.num_forwards)
    return [replace(clip, num_forwards=left.pop(clip.audio_digest, 0)) for clip in prepared]
