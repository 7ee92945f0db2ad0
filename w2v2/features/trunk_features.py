"""What is frozen, computed once per clip: arrays at the encoder's cut, cached by content.

An entry's key is the digest of the waveform (so of the audio and its preprocessing), under a folder
named by the weights, the cut and the arithmetic. Whoever has the same frozen part shares it.
"""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from w2v2.audio.decoding import SAMPLE_RATE, AudioError, load_waveform
from w2v2.config.data import AudioConfig, CacheConfig
from w2v2.features.batches import batches_by_budget, collate
from w2v2.features.cache import FeatureCache
from w2v2.features.requests import ClipFeatures, Request
from w2v2.models.device import compute_device, malloc_keeps_freed_memory, padded_budget, to_device
from w2v2.models.encoder import Encoder
from w2v2.storage import files as storage
from w2v2.storage.files import StorageError

logger = logging.getLogger(__name__)

TRUNK_VERSION = 1
"""Raised when the trunk's arithmetic changes, so that old entries are not read."""


def trunk_key(encoder: Encoder, digest: str, *, cache: CacheConfig, precision: str) -> str:
    """The folder name of everything that a trunk's output depends on beside the audio."""
    stage = encoder.cut.stage
    parts: list[object] = [TRUNK_VERSION, stage, encoder.normalize, cache.dtype]
    if stage != "waveform":
        parts += [digest, precision]
    if stage in ("layer", "pooled"):
        parts += [encoder.cut.layer, encoder.top if stage == "pooled" else "", encoder.several]
        parts += [encoder.states] if encoder.config.layers else []
    if stage == "pooled":
        parts.append(encoder.config.pooling)
    return f"{encoder.cut}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def prepare(
    requests: Sequence[Request],
    *,
    trunks: Sequence[tuple[Encoder, FeatureCache]],
    audio: AudioConfig,
    num_readers: int,
    precision: str = "float32",
) -> list[ClipFeatures]:
    """Each clip's features in every trunk's cache: read, decoded and computed only where an entry is missing."""
    fingerprints, results = _fingerprints(requests, num_readers)
    known = _known(requests, fingerprints, trunks, num_readers)
    unread = [r for r in requests if r.clip_id in fingerprints and r.clip_id not in known]
    waveforms: dict[str, np.ndarray] = {}
    for request, body in zip(
        unread, storage.read_many([r.uri for r in unread], num_at_once=num_readers), strict=True
    ):
        try:
            waveforms[request.clip_id] = _decode(request, body, audio, trunks)
        except (AudioError, StorageError) as error:
            results[request.clip_id] = ClipFeatures(clip_id=request.clip_id, reason=str(error))
    digests = {clip_id: waveform_digest(waveform) for clip_id, waveform in waveforms.items()}
    by_digest = {digests[clip_id]: waveform for clip_id, waveform in waveforms.items()}
    forwards = _fill(by_digest, trunks, num_readers, precision)
    for request in requests:
        clip_id = request.clip_id
        if clip_id in known:
            results[clip_id] = known[clip_id]
        elif clip_id in waveforms:
            results[clip_id] = ClipFeatures(
                clip_id=clip_id,
                fingerprint=fingerprints[clip_id],
                audio_digest=digests[clip_id],
                num_samples=len(waveforms[clip_id]),
                num_forwards=forwards.pop(digests[clip_id], 0),
            )
    return [results[request.clip_id] for request in requests]


def waveform_digest(waveform: Float[np.ndarray, " samples"]) -> str:
    """BLAKE2b of the samples, 32 hex digits: equal for equal audio, whatever the file around it."""
    return hashlib.blake2b(waveform.astype("<f4").tobytes(), digest_size=16).hexdigest()


def normalized(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """Zero mean and unit variance over the clip's own samples, as transformers' feature extractor does."""
    wide = waveform.astype(np.float64)
    return ((wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)).astype(np.float32)


def _fingerprints(
    requests: Sequence[Request], num_readers: int
) -> tuple[dict[str, str], dict[str, ClipFeatures]]:
    found: dict[str, str] = {}
    lost: dict[str, ClipFeatures] = {}
    infos = storage.stat_many([r.uri for r in requests], num_at_once=num_readers)
    for request, info in zip(requests, infos, strict=True):
        if isinstance(info, StorageError):
            lost[request.clip_id] = ClipFeatures(clip_id=request.clip_id, reason=str(info))
        else:
            found[request.clip_id] = info.fingerprint
    return found, lost


def _known(
    requests: Sequence[Request],
    fingerprints: dict[str, str],
    trunks: Sequence[tuple[Encoder, FeatureCache]],
    num_readers: int,
) -> dict[str, ClipFeatures]:
    """Clips whose file has not changed since an earlier run and whose entries are all intact."""
    same = [r for r in requests if r.audio_digest and r.fingerprint == fingerprints.get(r.clip_id)]
    intact = {r.audio_digest for r in same}
    for _, cache in trunks:
        intact &= cache.intact(intact, num_at_once=num_readers)
    return {
        r.clip_id: ClipFeatures(
            clip_id=r.clip_id,
            fingerprint=r.fingerprint,
            audio_digest=r.audio_digest,
            num_samples=r.num_samples,
        )
        for r in same
        if r.audio_digest in intact
    }


def _decode(
    request: Request,
    body: bytes | StorageError,
    audio: AudioConfig,
    trunks: Sequence[tuple[Encoder, FeatureCache]],
) -> Float[np.ndarray, " samples"]:
    if isinstance(body, StorageError):
        raise body
    waveform = load_waveform(body, audio, start_s=request.start_s, end_s=request.end_s)
    needed = max(encoder.min_samples for encoder, _ in trunks)
    if len(waveform) < needed:
        raise AudioError(
            f"too short: {len(waveform) / SAMPLE_RATE:.3f} s < {needed / SAMPLE_RATE:.3f} s, one frame of the encoder"
        )
    return waveform


def _fill(
    waveforms: dict[str, np.ndarray],
    trunks: Sequence[tuple[Encoder, FeatureCache]],
    num_readers: int,
    precision: str,
) -> dict[str, int]:
    """Compute what the caches lack; forwards made per digest (none for a cut at the waveform)."""
    forwards = dict.fromkeys(waveforms, 0)
    for encoder, cache in trunks:
        missing = sorted(set(waveforms) - cache.intact(waveforms, num_at_once=num_readers))
        prepared = [normalized(waveforms[d]) if encoder.normalize else waveforms[d] for d in missing]
        if encoder.cut.stage != "waveform":
            prepared = run_trunk(encoder, prepared, precision=precision)
            for digest in missing:
                forwards[digest] += 1
        cache.write(list(zip(missing, prepared, strict=True)), num_at_once=num_readers)
    return forwards


@malloc_keeps_freed_memory()
def run_trunk(
    encoder: Encoder, waveforms: Sequence[Float[np.ndarray, " _"]], *, precision: str = "float32"
) -> list[Float[np.ndarray, "_ ..."]]:
    """Features of each waveform at the encoder's cut, in the order given."""
    device = compute_device()
    encoder = encoder.to(device).eval()
    lengths = np.array([len(w) for w in waveforms], dtype=np.int64)
    results: list[np.ndarray] = [np.empty(0)] * len(waveforms)
    for batch in batches_by_budget(lengths, max_padded=padded_budget(device)):
        padded, num_samples = collate([waveforms[index] for index in batch])
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            features, num_frames = encoder.trunk(to_device(padded, device), to_device(num_samples, device))
        rows = features.float().cpu().numpy()
        for index, row, length in zip(batch, rows, num_frames.tolist(), strict=True):
            results[index] = row if encoder.cut.stage == "pooled" else row[:length]
    return results
