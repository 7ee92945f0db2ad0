"""What is frozen, computed once per clip: arrays at the encoder's cut, cached by content.

An entry's key is the digest of the waveform (so of the audio and its preprocessing), under a folder
named by the weights, the cut and the arithmetic. Whoever has the same frozen part shares it.
"""

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import torch
from jaxtyping import Float

from w2v2 import storage
from w2v2.audio import SAMPLE_RATE, AudioError, load_waveform
from w2v2.clips import Features, batches_by_budget, collate, padded_budget
from w2v2.config import AudioConfig, CacheConfig, UserError
from w2v2.encoder import Encoder
from w2v2.heap import kept_memory
from w2v2.prepared import Prepared, Request
from w2v2.storage import StorageError

logger = logging.getLogger(__name__)

TRUNK_VERSION = 1
"""Raised when the trunk's arithmetic changes, so that old entries are not read."""


class FeatureCache:
    """Arrays by digest in a folder or gs:// prefix; what is remote is mirrored on the local disk."""

    def __init__(self, cache: CacheConfig, key: str) -> None:
        self.dtype = np.dtype(cache.dtype)
        self.pooled = key.startswith("pooled")
        self.uri = storage.join(storage.expand(cache.uri), "features", key)
        self.folder = Path(self.uri)
        if storage.is_remote(self.uri):
            place = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
            self.folder = Path(storage.expand("~/.cache/w2v2")) / "mirror" / place

    def path(self, digest: str) -> Path:
        """Where the entry is on the local disk."""
        return self.folder / digest[:2] / f"{digest}.npy"

    def _remote(self, digest: str) -> str:
        return storage.join(self.uri, digest[:2], f"{digest}.npy")

    def intact(self, digests: Iterable[str], *, num_at_once: int) -> set[str]:
        """The digests whose entries are whole; a remote entry is on the local disk afterwards."""
        wanted = sorted(set(digests))
        good = {digest for digest in wanted if self._read(digest) is not None}
        missing = [digest for digest in wanted if digest not in good]
        if not storage.is_remote(self.uri) or not missing:
            return good
        bodies = storage.read_many([self._remote(d) for d in missing], num_at_once=num_at_once)
        for digest, body in zip(missing, bodies, strict=True):
            if not isinstance(body, StorageError) and _unsealed(body) is not None:
                storage.write_bytes(str(self.path(digest)), body)
                good.add(digest)
        return good

    def write(self, arrays: Sequence[tuple[str, Float[np.ndarray, "_ ..."]]], *, num_at_once: int) -> None:
        """Store arrays; each entry appears whole or not at all."""
        sealed = [(digest, _sealed(array.astype(self.dtype))) for digest, array in arrays]
        for digest, body in sealed:
            storage.write_bytes(str(self.path(digest)), body)
        if storage.is_remote(self.uri):
            storage.write_many(((self._remote(d), body) for d, body in sealed), num_at_once=num_at_once)

    def _read(self, digest: str) -> bytes | None:
        try:
            body = self.path(digest).read_bytes()
        except FileNotFoundError:
            return None
        content = _unsealed(body)
        if content is None:
            logger.warning("feature cache: %s is damaged and is computed again", self.path(digest))
        return content


class MappedFeatures:
    """Entries of a cache, mapped and not copied, so that all processes of a machine share them.

    A remote entry that is not on this machine's disk is fetched when it is asked for, or before, in the
    background, when it is to be expected: a worker reads its own share only.
    """

    def __init__(self, cache: FeatureCache, digests: Sequence[str], *, num_at_once: int = 16) -> None:
        self._cache, self._digests, self._num_at_once = cache, list(digests), num_at_once
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._fetching: dict[str, Future[None]] = {}

    def __len__(self) -> int:
        return len(self._digests)

    def __getitem__(self, index: int) -> Float[np.ndarray, "frames ..."]:
        digest = self._digests[index]
        path = self._cache.path(digest)
        if not path.exists():
            self.expect([index])
            self._fetching.pop(digest).result()
        return np.load(path, mmap_mode="r")

    def expect(self, indices: Iterable[int]) -> None:
        """Begin to fetch what of these is not here yet."""
        wanted = [self._digests[int(index)] for index in indices]
        missing = [d for d in wanted if d not in self._fetching and not self._cache.path(d).exists()]
        if missing:
            coming = self._reader.submit(localize, self._cache, missing, num_at_once=self._num_at_once)
            self._fetching |= dict.fromkeys(missing, coming)


def localize(cache: FeatureCache, digests: Sequence[str], *, num_at_once: int) -> None:
    """Make sure that every entry is on this machine's disk."""
    missing = [digest for digest in digests if not cache.path(digest).exists()]
    if missing and not storage.is_remote(cache.uri):
        raise UserError(
            f"cache.uri {cache.uri} lacks {len(missing)} entries on this machine: on a cluster of several nodes it "
            "must be a gs:// prefix or a folder that all nodes share"
        )
    left = set(missing) - cache.intact(missing, num_at_once=num_at_once)
    if left:
        raise UserError(f"cache.uri {cache.uri} lost {len(left)} entries since this run began; run it again")


def open_features(cache: FeatureCache, digests: Sequence[str], *, num_at_once: int) -> Features:
    """The entries of some clips in order; pooled vectors, small as they are, all in memory."""
    features = MappedFeatures(cache, digests, num_at_once=num_at_once)
    if not cache.pooled:
        return features
    localize(cache, digests, num_at_once=num_at_once)  # opening files would cost more than training does
    return [np.array(features[index]) for index in range(len(features))]


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
) -> list[Prepared]:
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
            results[request.clip_id] = Prepared(clip_id=request.clip_id, reason=str(error))
    digests = {clip_id: waveform_digest(waveform) for clip_id, waveform in waveforms.items()}
    by_digest = {digests[clip_id]: waveform for clip_id, waveform in waveforms.items()}
    forwards = _fill(by_digest, trunks, num_readers, precision)
    for request in requests:
        clip_id = request.clip_id
        if clip_id in known:
            results[clip_id] = known[clip_id]
        elif clip_id in waveforms:
            results[clip_id] = Prepared(
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
) -> tuple[dict[str, str], dict[str, Prepared]]:
    found: dict[str, str] = {}
    lost: dict[str, Prepared] = {}
    infos = storage.stat_many([r.uri for r in requests], num_at_once=num_readers)
    for request, info in zip(requests, infos, strict=True):
        if isinstance(info, StorageError):
            lost[request.clip_id] = Prepared(clip_id=request.clip_id, reason=str(info))
        else:
            found[request.clip_id] = info.fingerprint
    return found, lost


def _known(
    requests: Sequence[Request],
    fingerprints: dict[str, str],
    trunks: Sequence[tuple[Encoder, FeatureCache]],
    num_readers: int,
) -> dict[str, Prepared]:
    """Clips whose file has not changed since an earlier run and whose entries are all intact."""
    same = [r for r in requests if r.audio_digest and r.fingerprint == fingerprints.get(r.clip_id)]
    intact = {r.audio_digest for r in same}
    for _, cache in trunks:
        intact &= cache.intact(intact, num_at_once=num_readers)
    return {
        r.clip_id: Prepared(
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


@kept_memory()
def run_trunk(
    encoder: Encoder, waveforms: Sequence[Float[np.ndarray, " _"]], *, precision: str = "float32"
) -> list[Float[np.ndarray, "_ ..."]]:
    """Features of each waveform at the encoder's cut, in the order given."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = False  # or entries would be exact to three digits only
    encoder = encoder.to(device).eval()
    lengths = np.array([len(w) for w in waveforms], dtype=np.int64)
    results: list[np.ndarray] = [np.empty(0)] * len(waveforms)
    for batch in batches_by_budget(lengths, max_padded=padded_budget(device)):
        padded, num_samples = collate([waveforms[index] for index in batch])
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            features, num_frames = encoder.trunk(padded.to(device), num_samples.to(device))
        rows = features.float().cpu().numpy()
        for index, row, length in zip(batch, rows, num_frames.tolist(), strict=True):
            results[index] = row if encoder.cut.stage == "pooled" else row[:length]
    return results


def _sealed(array: Float[np.ndarray, "frames ..."]) -> bytes:
    """An .npy file followed by its crc32c."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    content = buffer.getvalue()
    return content + google_crc32c.value(content).to_bytes(4, "big")


def _unsealed(body: bytes) -> bytes | None:
    content, seal = body[:-4], body[-4:]
    return content if google_crc32c.value(content).to_bytes(4, "big") == seal else None
