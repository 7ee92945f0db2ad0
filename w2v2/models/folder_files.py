"""The list of a model folder's files, by which a damaged or missing one is noticed before anything is computed."""

from collections.abc import Mapping
from pathlib import Path

import google_crc32c

from w2v2.errors import UserError
from w2v2.json_types import Json, JsonObject
from w2v2.storage import files as storage
from w2v2.storage.seals import parse_json

PRETRAINED = "pretraining.json"
"""The card of an encoder of `w2v2 pretrain`, with the list of its files."""
EDITABLE_FILES = ("README.md",)
"""Files that may be edited, or are written again when a model is scored."""


def file_entries(contents: Mapping[str, bytes]) -> dict[str, dict[str, Json]]:
    """Size and checksum of each file, by name, as w2v2.json records them."""
    return {
        name: {"size_bytes": len(body), "crc32c": google_crc32c.value(body)}
        for name, body in contents.items()
        if name not in EDITABLE_FILES
    }


def refuse_damaged(uri: str, entries: Mapping[str, JsonObject]) -> None:
    """Raises UserError naming a file of the folder that is missing or was changed.

    Only the size is compared of weights, whose values are checked when the model is loaded, and of a language model,
    which may be larger than the weights. Folders of earlier versions have no entries.
    """
    base = storage.expand(uri)
    is_weights = [name.startswith("model") and name.endswith(".safetensors") for name in entries]
    large = [
        name
        for name, is_weight_file in zip(entries, is_weights, strict=True)
        if is_weight_file or name.endswith(".arpa")
    ]
    small = [name for name in entries if name not in large]
    sizes = storage.stat_many([storage.join(base, name) for name in large], num_at_once=8)
    for name, info in zip(large, sizes, strict=True):
        is_same = isinstance(info, storage.FileInfo) and info.size_bytes == entries[name]["size_bytes"]
        _check(uri, name, info, is_same=is_same)
    bodies = list(storage.read_many([storage.join(base, name) for name in small], num_at_once=8))
    for name, body in zip(small, bodies, strict=True):
        is_same = isinstance(body, bytes) and google_crc32c.value(body) == entries[name]["crc32c"]
        _check(uri, name, body, is_same=is_same)


def refuse_damaged_encoder(name: str, folder: Path) -> None:
    """Raises UserError naming a file of a local encoder folder that differs from what was saved, its weights included.

    The folders of `w2v2 pretrain` and `w2v2 finetune` list their files; others, and those of earlier versions, do not.
    """
    for listing in (PRETRAINED, "w2v2.json"):
        place = folder / listing
        if not place.exists():
            continue
        try:
            entries = parse_json(str(place), place.read_bytes()).get("files", {})
        except storage.DamagedError as error:
            raise UserError(
                f"encoder.name {name!r} is damaged: {error}; copy the whole folder again"
            ) from error
        for file, entry in entries.items():
            path = folder / file
            missing = None if path.is_file() else storage.NotFoundError(file)
            is_same = missing is None and _crc_of(path) == entry["crc32c"]
            _check(name, file, missing, is_same=is_same, field="encoder.name")


def _crc_of(path: Path) -> int:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            checksum.update(chunk)
    return int.from_bytes(checksum.digest(), "big")


def _check(uri: str, name: str, content: object, *, is_same: bool, field: str = "model") -> None:
    if isinstance(content, storage.NotFoundError):
        raise UserError(f"{field} {uri!r} is damaged: {name} is missing; copy the whole folder again")
    if isinstance(content, storage.StorageError):
        raise content
    if not is_same:
        raise UserError(
            f"{field} {uri!r} is damaged: {name} is not as it was saved; copy the whole folder again, or save the model again"
        )
