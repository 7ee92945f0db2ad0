"""Encoders whose small files rule them out, before weights are loaded and audio is read: other rates, and adapters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.errors import UserError
from w2v2.models.architecture import refuse_adapter
from w2v2.models.pretrained_name import check_folder, local_path
from w2v2.storage import files as storage

RATES = (
    ("preprocessor_config.json", ("sampling_rate",)),
    ("processor_config.json", ("feature_extractor", "sampling_rate")),
    ("config.json", ("sampling_rate",)),
    ("config.json", ("sample_rate",)),
)
"""The files and keys that say at what rate a model wants audio."""


def refuse_unusable(name: str, *, field: str = "encoder.name", folder: str = "") -> None:
    """Raises UserError, which begins with the field, for an encoder whose folder is missing or whose files rule it out.

    What rules it out is an adapter behind the encoder, or another rate than 16 kHz. Torch is not imported; of a hub name
    the small files are downloaded. What cannot be read here is left to the loader, which reports why. folder is where
    the files are read, if not in the place that the name says.
    """
    check_folder(name, field=field)
    if name == "tiny":
        return
    files = {file: _read_json(folder or name, file) for file in dict.fromkeys(file for file, _ in RATES)}
    refuse_adapter(name, files["config.json"].get("add_adapter"), field=field)
    for file, keys in RATES:
        rate = _value_at(files[file], keys)
        if rate not in (None, SAMPLE_RATE, str(SAMPLE_RATE)):
            raise UserError(
                f"{field} {name!r} wants audio of {rate} Hz ({'.'.join(keys)} in {file}), and audio is {SAMPLE_RATE} Hz "
                f"here: give a model for {SAMPLE_RATE} Hz"
            )


def _read_json(name: str, file: str) -> Mapping[str, Any]:
    """The content of a model's file; empty where there is none, or none that can be read."""
    try:
        if storage.is_remote(name):
            text = storage.read_text(storage.join(name, file))
        elif local_path(name).is_dir():
            text = (local_path(name) / file).read_text()
        else:
            text = _hub_text(name, file)
        content = json.loads(text)
    except (OSError, ValueError, storage.NotFoundError):
        return {}
    return content if isinstance(content, dict) else {}


def _hub_text(name: str, file: str) -> str:
    """The text of a file on the Hugging Face hub, '' where it cannot be had; the hub's cache keeps it for the loader."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(name, file)).read_text()
    except Exception:  # no such model, no such file, no network: the loader tells them apart
        return ""


def _value_at(content: Any, keys: tuple[str, ...]) -> Any:
    """The value at nested keys; None where there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
