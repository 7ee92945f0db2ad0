"""Hand-made features computed once per clip, and kept by the digest of its waveform beside what encoders give."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from w2v2.audio.decoding import AudioError, load_waveform
from w2v2.audio.descriptors import DESCRIPTORS_VERSION, describe
from w2v2.config.data import AudioConfig, CacheConfig, Descriptor
from w2v2.features.cache import FeatureCache
from w2v2.features.requests import ClipFeatures, Request
from w2v2.features.trunk_features import waveform_digest
from w2v2.storage import files as storage
from w2v2.storage.files import StorageError
from w2v2.versions import library_versions

Vector = Float[np.ndarray, " descriptors"]


@dataclass(frozen=True, kw_only=True)
class Described:
    """A clip and its hand-made features; none where prepared has a reason against the clip."""

    prepared: ClipFeatures
    values: Vector | None = None


def descriptor_cache(kind: Descriptor, cache: CacheConfig) -> FeatureCache:
    """Where the features of one kind are; in float32 always, as Hz and dB do not fit into less."""
    library = "opensmile" if kind == "egemaps" else "librosa"
    parts = (DESCRIPTORS_VERSION, kind, library, library_versions(library)[library])
    key = f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
    return FeatureCache(replace(cache, dtype="float32"), key)


def stored(
    digests: Collection[str], *, kinds: Sequence[Descriptor], cache: CacheConfig, num_at_once: int
) -> dict[str, Vector]:
    """The features that an earlier run left, of those clips of which every kind is there."""
    caches = [descriptor_cache(kind, cache) for kind in kinds]
    intact = set(digests)
    for own in caches:
        intact &= own.intact(intact, num_at_once=num_at_once)
    return {
        digest: np.concatenate([np.load(own.path(digest)) for own in caches]) for digest in sorted(intact)
    }


def described(
    waveforms: Mapping[str, Float[np.ndarray, " samples"]],
    *,
    kinds: Sequence[Descriptor],
    cache: CacheConfig,
    num_at_once: int,
) -> dict[str, Vector | AudioError]:
    """The features of waveforms by digest, computed where a kind is missing; the error of a clip that has none."""
    found: dict[str, list[Vector]] = {digest: [] for digest in waveforms}
    errors: dict[str, AudioError] = {}
    for kind in kinds:
        own = descriptor_cache(kind, cache)
        there = own.intact(found, num_at_once=num_at_once)
        computed: dict[str, Vector] = {}
        for digest in sorted(found.keys() - there - errors.keys()):
            try:
                computed[digest] = describe(waveforms[digest], [kind])
            except AudioError as error:
                errors[digest] = error
        own.write(list(computed.items()), num_at_once=num_at_once)
        for digest in found.keys() - errors.keys():
            found[digest].append(computed[digest] if digest in computed else np.load(own.path(digest)))
    return {digest: errors.get(digest) or np.concatenate(parts) for digest, parts in found.items()}


def prepare_descriptors(
    requests: Sequence[Request],
    *,
    kinds: Sequence[Descriptor],
    audio: AudioConfig,
    cache: CacheConfig,
    num_readers: int,
) -> list[Described]:
    """Each clip's features, in order: read and computed only where the file is new or an entry is missing."""
    fingerprints, reasons = _fingerprints(requests, num_readers)
    same = [r for r in requests if r.audio_digest and r.fingerprint == fingerprints.get(r.clip_id)]
    known = stored({r.audio_digest for r in same}, kinds=kinds, cache=cache, num_at_once=num_readers)
    results = {
        r.clip_id: Described(prepared=_prepared(r, r.fingerprint), values=known[r.audio_digest])
        for r in same
        if r.audio_digest in known
    }
    unread = [r for r in requests if r.clip_id in fingerprints and r.clip_id not in results]
    waveforms = _waveforms(unread, audio, num_readers, reasons)
    digests = {clip_id: waveform_digest(waveform) for clip_id, waveform in waveforms.items()}
    by_digest = {digests[clip_id]: waveform for clip_id, waveform in waveforms.items()}
    found = described(by_digest, kinds=kinds, cache=cache, num_at_once=num_readers)
    for request in unread:
        clip_id = request.clip_id
        if clip_id not in waveforms:
            continue
        values = found[digests[clip_id]]
        if isinstance(values, AudioError):
            reasons[clip_id] = str(values)
            continue
        heard = replace(request, audio_digest=digests[clip_id], num_samples=len(waveforms[clip_id]))
        results[clip_id] = Described(prepared=_prepared(heard, fingerprints[clip_id]), values=values)
    refused = {c: Described(prepared=ClipFeatures(clip_id=c, reason=reason)) for c, reason in reasons.items()}
    results |= refused
    return [results[request.clip_id] for request in requests]


def _fingerprints(requests: Sequence[Request], num_readers: int) -> tuple[dict[str, str], dict[str, str]]:
    """Of the files that are there their fingerprints, of the others the reasons, by clip."""
    found: dict[str, str] = {}
    reasons: dict[str, str] = {}
    infos = storage.stat_many([r.uri for r in requests], num_at_once=num_readers)
    for request, info in zip(requests, infos, strict=True):
        if isinstance(info, StorageError):
            reasons[request.clip_id] = str(info)
        else:
            found[request.clip_id] = info.fingerprint
    return found, reasons


def _waveforms(
    requests: Sequence[Request], audio: AudioConfig, num_readers: int, reasons: dict[str, str]
) -> dict[str, Float[np.ndarray, " _"]]:
    """The audio of the clips that can be used; the reason against each other is added to `reasons`."""
    found: dict[str, np.ndarray] = {}
    bodies = storage.read_many([r.uri for r in requests], num_at_once=num_readers)
    for request, body in zip(requests, bodies, strict=True):
        try:
            if isinstance(body, StorageError):
                raise body
            found[request.clip_id] = load_waveform(body, audio, start_s=request.start_s, end_s=request.end_s)
        except (AudioError, StorageError) as error:
            reasons[request.clip_id] = str(error)
    return found


def _prepared(request: Request, fingerprint: str) -> ClipFeatures:
    return ClipFeatures(
        clip_id=request.clip_id,
        fingerprint=fingerprint,
        audio_digest=request.audio_digest,
        num_samples=request.num_samples,
    )
