"""The list of a model folder's files, by which a damaged or missing one is noticed before anything is computed."""

from collections.abc import Mapping
from typing import Any

import google_crc32c

from w2v2.errors import UserError
from w2v2.storage import files as storage

CHANGING = ("README.md",)
"""Files that may be edited, or are written again when a model is scored."""


def file_entries(contents: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Size and checksum of each file, by name, as w2v2.json records them."""
    return {
        name: {"size_bytes": len(body), "crc32c": google_crc32c.value(body)}
        for name, body in contents.items()
        if name not in CHANGING
    }


def refuse_damaged(uri: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
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


def _check(uri: str, name: str, content: object, *, is_same: bool) -> None:
    if isinstance(content, storage.NotFoundError):
        raise UserError(f"model {uri!r} is damaged: {name} is missing; copy the whole folder again")
    if isinstance(content, storage.StorageError):
        raise content
    if not is_same:
        raise UserError(
            f"model {uri!r} is damaged: {name} is not as it was saved; copy the whole folder again, or save the model again"
        )
