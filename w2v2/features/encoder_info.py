"""Facts about an encoder that a job needs before loading it, kept in the cache by the worker that loaded it last."""

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import google_crc32c

from w2v2.config.data import CacheConfig
from w2v2.config.digest import first_and_changed
from w2v2.config.model import FIRST_ENCODER_FIELDS, EncoderConfig
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)

TRUNK_VERSION = 1
"""Raised when the trunk's arithmetic changes, so that old features are not read."""
INFO_VERSION = 1
"""Raised when EncoderInfo changes, so that the kept facts about encoders are not read."""


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """The facts about an encoder that plans and pages need."""

    digest: str
    """The digest of its weights."""
    cut: str
    key: str
    """The folder of its features in the cache."""
    num_layers: int
    num_parameters: int
    kernels: tuple[int, ...]
    """Kernel sizes of the convolutions: the frames of transcripts follow from them."""
    strides: tuple[int, ...]
    vector_size: int
    """Numbers that a clip's pooled vectors have; 0 where frames cross the cut."""


class RecordedEncoders:
    """`<cache>/encoders/`: one file per encoder, named by its settings and the state of its weight files."""

    def __init__(self, cache: CacheConfig, *, precision: str, seed: int) -> None:
        self._cache, self._precision, self._seed = cache, precision, seed

    def find(self, encoder: EncoderConfig) -> EncoderInfo | None:
        """The facts about an encoder; None where it was never loaded, or its files have changed since.

        Raises StorageError where the cache cannot be read.
        """
        uri = self._uri(encoder)
        if not uri or not storage.exists(uri):
            return None
        try:
            text = storage.read_text(uri)
        except storage.DamagedError:
            text = ""
        try:
            kept = json.loads(text)
            if kept["crc32c"] == _seal(kept["info"]):
                lists = {name: tuple(kept["info"][name]) for name in ("kernels", "strides")}
                return EncoderInfo(**kept["info"] | lists)
        except (ValueError, KeyError, TypeError):
            pass
        logger.warning("%s is damaged: the encoder is loaded again", uri)
        return None

    def add(self, encoder: EncoderConfig, info: EncoderInfo) -> None:
        """Keep the facts about an encoder that was just loaded."""
        if uri := self._uri(encoder):
            kept = asdict(info)
            storage.write_text(uri, json.dumps({"info": kept, "crc32c": _seal(kept)}))

    def _uri(self, encoder: EncoderConfig) -> str:
        """The encoder's file in the cache; '' where the state of its weights is unknown without loading them."""
        weights = _weights_state(encoder.name, self._seed)
        if not weights:
            return ""
        # Hashed here and not by config.digest.settings_digest: caches of earlier versions have these names.
        settings = first_and_changed(encoder, FIRST_ENCODER_FIELDS)
        parts = [INFO_VERSION, TRUNK_VERSION, weights, settings, self._cache.dtype, self._precision]
        name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        return storage.join(storage.expand(self._cache.uri), "encoders", f"{name}.json")


def _seal(info: dict[str, object]) -> int:
    return google_crc32c.value(json.dumps(info, sort_keys=True).encode())


def _weights_state(name: str, seed: int) -> str:
    """A text that changes whenever the weights behind a name may have changed; '' where that is unknown."""
    if name == "tiny":
        return f"tiny {seed} torch {version('torch')} transformers {version('transformers')}"
    try:
        if storage.is_remote(name) or Path(name).expanduser().is_dir():
            files = storage.list_files(name)
            return repr(sorted((file.uri, file.fingerprint) for file in files))
        return _hub_revision(name)
    except storage.StorageError:
        return ""  # the loader of the encoder raises the better error


def _hub_revision(name: str) -> str:
    """The commit of a model on the Hugging Face hub or, if the hub does not answer, of the copy on this machine."""
    import huggingface_hub

    try:
        if os.environ.get("HF_HUB_OFFLINE", "0") in ("0", ""):
            return huggingface_hub.HfApi().model_info(name, timeout=5).sha or ""
    except Exception:  # any network error: the loader reports those
        pass
    try:
        copy = huggingface_hub.try_to_load_from_cache(name, "config.json")
    except ValueError:  # not a name on the hub
        return ""
    return Path(copy).parent.name if isinstance(copy, str) else ""
