"""Flags and files as users write them: short forms are understood, earlier names of a setting answered or translated."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from w2v2.errors import UserError
from w2v2.json_types import Json, JsonObject

MAIN_FIELDS = {
    "data": "uri",
    "encoder": "name",
    "cache": "uri",
    "folds": "kind",
    "task": "kind",
    "split": "kind",
}
"""The field that the name of a section stands for: `--data ~/ravdess` is `--data.uri ~/ravdess`."""

EARLIER = {
    "workers": "resources.num_workers",
    "cpus_per_worker": "resources.cpus_per_worker",
    "gpus_per_worker": "resources.gpus_per_worker",
    "search.workers_per_fold": "resources.num_workers",
    "search.cpus_per_trial": "resources.cpus_per_worker",
    "search.gpus_per_trial": "resources.gpus_per_worker",
    "workers.num_encoders": "resources.num_workers",
    "workers.cpus_per_encoder": "resources.cpus_per_worker",
    "workers.gpus_per_encoder": "resources.gpus_per_worker",
    "workers.clips_per_part": "resources.clips_per_part",
    "training.precision": "resources.precision",
    "encoder.precision": "resources.precision",
}
"""Names that a setting had in earlier versions."""

SYNONYMS = {
    "lr": "optim.learning_rate",
    "epochs": "training.num_epochs",
    "gpus": "resources.gpus_per_worker",
    "cpus": "resources.cpus_per_worker",
    "input": "data.uri",
    "dataset": "data.uri",
    "output": "run",
    "output_dir": "run",
    "trials": "search.num_trials",
}
"""Names of settings in other tools."""

_WORD = re.compile(r"(?P<dashes>--)?(?P<path>[A-Za-z_][\w.-]*)(?:=(?P<value>.*))?$", re.DOTALL)


def respelled_flags(words: Sequence[str], fields: Iterable[str]) -> list[str]:
    """The arguments with every flag as --section.field; fields are the paths of all fields.

    Raises UserError with the line to write for an earlier name, and for a search space that is no interval.
    """
    paths = set(fields)
    flags: list[str] = []
    pending = list(words)[::-1]
    while pending:
        word = pending.pop()
        match = _WORD.match(word)
        path = _path(match["path"], paths) if match else ""
        if not match or not (match["dashes"] or (match["value"] is not None and path in paths)):
            flags.append(word)
            continue
        value = match["value"]
        if value is None and path and pending and not _is_flag(pending[-1], paths):
            value = pending.pop()
        refuse_earlier(path, value, paths)
        path = _field(path, value, paths)
        if path == "search.space" and value is not None:
            _check_space(_tree(value))
        flags.append(f"--{path}" if value is None else f"--{path}={value}")
    return flags


def respelled_settings(
    settings: Mapping[str, Json], fields: Iterable[str]
) -> tuple[dict[str, Json], dict[str, str]]:
    """The settings of a file with sections as mappings and today's names, and the new name of each earlier name in it.

    Raises UserError for a search space that is no interval.
    """
    paths = set(fields)
    renamed: dict[str, str] = {}
    flat = dict(_flat(settings, paths))
    for path in list(flat):
        now = EARLIER.get(path, "")
        if now in paths and path not in paths:
            renamed[path] = now
            flat.setdefault(now, flat[path])
            del flat[path]
    if isinstance(flat.get("search.space"), dict):
        _check_space(flat["search.space"])
    return _nested(flat), renamed


def unknown_field(name: str, fields: Iterable[str]) -> str:
    """The sentence on an unknown field, with the field that may be meant.

    >>> unknown_field("batch_size", ["optim.batch_size", "optim.learning_rate"])
    'there is no field batch_size, did you mean optim.batch_size'
    """
    paths = list(fields)
    near = [SYNONYMS[name]] if SYNONYMS.get(name) in paths else difflib.get_close_matches(name, paths, n=1)
    if not near:
        last = {field.rpartition(".")[2]: field for field in reversed(paths)}
        near = [
            last[name_below]
            for name_below in difflib.get_close_matches(name.rpartition(".")[2], last, n=1, cutoff=0.75)
        ]
    return f"there is no field {name}" + (f", did you mean {near[0]}" if near else "")


def refuse_earlier(path: str, value: object, fields: Iterable[str]) -> None:
    """Raises UserError with the line to write where a path is an earlier name of a setting."""
    now = EARLIER.get(path, "")
    if now in fields and path not in fields:
        raise UserError(f"{path} is now {now}: write --{now} {'VALUE' if value is None else value}")


def _path(path: str, paths: set[str]) -> str:
    """The path as fields are written: data-uri and data.max-reject-fraction have underscores."""
    plain = path.replace("-", "_")
    return plain if path not in paths and (plain in paths or _is_section(plain, paths)) else path


def _is_section(path: str, paths: set[str]) -> bool:
    return any(field.startswith(f"{path}.") for field in paths)


def _is_flag(word: str, paths: set[str]) -> bool:
    match = _WORD.match(word)
    return bool(match and match["dashes"]) or bool(
        match and match["value"] is not None and match["path"] in paths
    )


def _field(path: str, value: str | None, paths: set[str]) -> str:
    """The field that a path stands for with this value, where the path is a section's name, encoder.layers or encoder.layer."""
    main = f"{path}.{MAIN_FIELDS.get(path, '')}"
    if main in paths and value is not None and not value.lstrip().startswith("{"):
        return main
    is_single_layer = value is not None and (value.strip() == "last" or value.strip().isdecimal())
    if path == "encoder.layers" and "encoder.layer" in paths and is_single_layer:
        return "encoder.layer"
    if path == "encoder.layer" and path not in paths and "encoder.layers" in paths:
        return "encoder.layers"
    return path


def _flat(settings: Mapping[str, Json], paths: set[str], prefix: str = "") -> Iterable[tuple[str, Json]]:
    """Each setting by its path; a mapping that is the value of a field, such as classes to rename, stays one value."""
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and (path not in paths or _is_section(path, paths)):
            yield from _flat(value, paths, f"{path}.")
        elif isinstance(value, str | int):
            yield _field(path, str(value), paths), value
        else:
            yield path, value


def _nested(flat: JsonObject) -> dict[str, Json]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tree


def _tree(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return None  # the parser reports the error


def _check_space(space: object) -> None:
    """Raises UserError where a searched field has a bare list or number."""
    for path, dimension in space.items() if isinstance(space, dict) else ():
        if isinstance(dimension, list):
            shown = ", ".join(map(str, dimension))
            interval = (
                f"{{low: {dimension[0]}, high: {dimension[1]}}} for the interval or "
                if len(dimension) == 2
                else ""
            )
            raise UserError(
                f"search.space: {path} is a list, [{shown}]: write {path}: {interval}{{choices: [{shown}]}} for these values"
            )
        if not isinstance(dimension, dict):
            raise UserError(
                f"search.space: {path} is {dimension}: write {path}: {{choices: [{dimension}]}}, or {{low: ..., high: ...}}"
            )
