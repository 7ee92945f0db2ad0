"""Flags and files as users write them: short forms are understood, earlier names of a setting answered or translated."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from w2v2.errors import UserError

MAIN_FIELDS = {
    "data": "uri",
    "encoder": "name",
    "cache": "uri",
    "folds": "kind",
    "task": "kind",
    "split": "kind",
}
"""The field of a section that its name alone means: `--data ~/ravdess` is `--data.uri ~/ravdess`."""

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

MEANT = {
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
"""What other tools call a setting."""

_WORD = re.compile(r"(?P<dashes>--)?(?P<path>[A-Za-z_][\w.-]*)(?:=(?P<value>.*))?$", re.DOTALL)


def respelled_flags(words: Sequence[str], fields: Iterable[str]) -> list[str]:
    """The arguments with every flag as --section.field; fields are the paths of all fields.

    Raises UserError with the line to write for an earlier name, and for a search space that is no interval.
    """
    known = set(fields)
    found: list[str] = []
    pending = list(words)[::-1]
    while pending:
        word = pending.pop()
        match = _WORD.match(word)
        path = _path(match["path"], known) if match else ""
        if not match or not (match["dashes"] or (match["value"] is not None and path in known)):
            found.append(word)
            continue
        value = match["value"]
        if value is None and path and pending and not _is_flag(pending[-1], known):
            value = pending.pop()
        refuse_earlier(path, value, known)
        path = _field(path, value, known)
        if path == "search.space" and value is not None:
            _check_space(_tree(value))
        found.append(f"--{path}" if value is None else f"--{path}={value}")
    return found


def respelled_settings(
    settings: Mapping[str, Any], fields: Iterable[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a file with sections as mappings and today's names, and the earlier names it had with today's."""
    known = set(fields)
    renamed: dict[str, str] = {}
    flat = dict(_flat(settings, known))
    for path in list(flat):
        now = EARLIER.get(path, "")
        if now in known and path not in known:
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
    known = list(fields)
    near = [MEANT[name]] if MEANT.get(name) in known else difflib.get_close_matches(name, known, n=1)
    if not near:
        last = {field.rpartition(".")[2]: field for field in reversed(known)}
        near = [last[found] for found in difflib.get_close_matches(name.rpartition(".")[2], last, n=1)]
    return f"there is no field {name}" + (f", did you mean {near[0]}" if near else "")


def refuse_earlier(path: str, value: object, fields: Iterable[str]) -> None:
    """Raises UserError with the line to write where a path is an earlier name of a setting."""
    now = EARLIER.get(path, "")
    if now in fields and path not in fields:
        raise UserError(f"{path} is now {now}: write --{now} {'VALUE' if value is None else value}")


def _path(path: str, known: set[str]) -> str:
    """The path as fields are written: data-uri and data.max-reject-fraction have underscores."""
    plain = path.replace("-", "_")
    return plain if path not in known and (plain in known or _is_section(plain, known)) else path


def _is_section(path: str, known: set[str]) -> bool:
    return any(field.startswith(f"{path}.") for field in known)


def _is_flag(word: str, known: set[str]) -> bool:
    match = _WORD.match(word)
    return bool(match and match["dashes"]) or bool(
        match and match["value"] is not None and match["path"] in known
    )


def _field(path: str, value: str | None, known: set[str]) -> str:
    """The field that a path means with this value: that of a section's name, and of encoder.layers and encoder.layer."""
    main = f"{path}.{MAIN_FIELDS.get(path, '')}"
    if main in known and value is not None and not value.lstrip().startswith("{"):
        return main
    is_one = value is not None and (value.strip() == "last" or value.strip().isdecimal())
    if path == "encoder.layers" and "encoder.layer" in known and is_one:
        return "encoder.layer"
    if path == "encoder.layer" and path not in known and "encoder.layers" in known:
        return "encoder.layers"
    return path


def _flat(settings: Mapping[str, Any], known: set[str], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Each setting by its path; what is below a field, such as classes to rename, stays one value."""
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and (path not in known or _is_section(path, known)):
            yield from _flat(value, known, f"{path}.")
        elif isinstance(value, str | int):
            yield _field(path, str(value), known), value
        else:
            yield path, value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return found


def _tree(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return None  # the parser reports the error


def _check_space(space: Any) -> None:
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
