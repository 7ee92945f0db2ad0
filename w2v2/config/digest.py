"""Digests and comparison of settings, for caches, tables, records and run directories.

A digest hashes the names and values of the fields that differ from their defaults, so a new field at its default
changes no digest. A changed default does: raise VERSION with it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, ClassVar, Protocol, TypeGuard, runtime_checkable

from w2v2.json_types import Json

VERSION = 1
"""Raised when a default of a digested section changes, so that nothing computed with the old one is reused."""

NUM_DIGITS = 24


@runtime_checkable
class DataclassInstance(Protocol):
    """An instance of any dataclass, such as a section of settings."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def settings_digest(purpose: str, **parts: object) -> str:
    """A digest (24 hex digits) of settings (sections, by name) and other values, for one purpose.

    >>> from w2v2.config.data import AudioConfig
    >>> settings_digest("example", audio=AudioConfig()) == settings_digest("example", audio=AudioConfig(crop_s=0))
    True
    >>> settings_digest("example", audio=AudioConfig()) == settings_digest("other", audio=AudioConfig())
    False
    """
    values = {name: changed(part) if _is_section(part) else plain(part) for name, part in parts.items()}
    text = json.dumps({"version": VERSION, "purpose": purpose, **values}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:NUM_DIGITS]


def repr_digest(*values: object) -> str:
    """A digest (24 hex digits) of the repr() of these values, which records, tables and caches of earlier versions have.

    New digests are made by settings_digest, whose keys stay the same where a field is added.
    """
    return hashlib.sha256(repr(values).encode()).hexdigest()[:NUM_DIGITS]


def changed(config: DataclassInstance) -> dict[str, Any]:
    """The fields that differ from their defaults, as plain values; the fields of a section are a dict.

    >>> from w2v2.config.data import AudioConfig
    >>> changed(AudioConfig(crop_s=3))
    {'crop_s': 3.0}
    """
    differing: dict[str, Any] = {}
    for field in fields(config):
        value, default = getattr(config, field.name), _default(field)
        if _is_section(value) and _is_section(default):
            if inner := changed(value):
                differing[field.name] = inner
        elif default is MISSING or value != default:
            number = isinstance(default, float) and isinstance(value, int)
            differing[field.name] = float(value) if number else plain(value)
    return differing


def differences(
    before: DataclassInstance, now: DataclassInstance, *, besides: Sequence[str] = ()
) -> dict[str, tuple[Json, Json]]:
    """Dotted paths of the fields that differ between two configs of one class, with both values as in YAML.

    besides are paths of fields or sections to leave out.
    """
    return dict(_differences(before, now, "", set(besides)))


def _differences(
    before: DataclassInstance, now: DataclassInstance, prefix: str, besides: set[str]
) -> Iterator[tuple[str, tuple[Json, Json]]]:
    for field in fields(now):
        path = f"{prefix}{field.name}"
        if path in besides:
            continue
        old, new = getattr(before, field.name), getattr(now, field.name)
        if _is_section(new) and _is_section(old):
            yield from _differences(old, new, f"{path}.", besides)
        elif old != new:
            yield path, (plain(old), plain(new))


def positional(config: DataclassInstance, names: Sequence[str]) -> tuple[object, ...] | None:
    """The values of these fields in order, which digests before VERSION 1 hashed.

    None where another field differs from its default: earlier versions did not have it.
    """
    if changed(config).keys() - set(names):
        return None
    return tuple(getattr(config, name) for name in names)


def first_and_changed(config: DataclassInstance, first: Sequence[str]) -> dict[str, Json]:
    """The values by name of the fields in `first`, which the class began with, and of later fields that differ from their defaults.

    Digests that once hashed all fields by name hash these, so that a new field at its default changes no digest.

    >>> from w2v2.config.data import FIRST_AUDIO_FIELDS, AudioConfig
    >>> first_and_changed(AudioConfig(), FIRST_AUDIO_FIELDS)["crop_s"]
    0.0
    """
    values: dict[str, Json] = {name: plain(getattr(config, name)) for name in first}
    return values | {name: value for name, value in changed(config).items() if name not in values}


def plain(value: object) -> Any:
    """The value as JSON has it: tuples become lists, sections dicts of all their fields."""
    if _is_section(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def _default(field: Field) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _is_section(value: object) -> TypeGuard[DataclassInstance]:
    return is_dataclass(value) and not isinstance(value, type)
