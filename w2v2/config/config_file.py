"""The file of --config, checked before the parser sees it: nothing of its content is repeated in an error."""

import os
from collections.abc import Collection, Iterator

import yaml

from w2v2.errors import UserError
from w2v2.json_types import Json

MAX_BYTES = 2**20
MAX_DEPTH = 20
_WANTED = "wanted UTF-8 YAML with names and values, such as `seed: 1`"


def read_config_file(uri: str, *, optional: Collection[str] = ()) -> str:
    """The text of a file of settings, local or gs://; optional are the dotted names that may have no value.

    Raises UserError unless it is a small UTF-8 YAML of names with values, without aliases.
    """
    try:
        text = _read(uri).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"--config {uri} is not UTF-8 text (byte {error.start}): {_WANTED}") from None
    try:
        _check_structure(uri, text)
        _check_names(uri, yaml.compose(text, Loader=yaml.SafeLoader))
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise UserError(f"--config {uri} is not YAML{where}: {_WANTED}") from None
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise UserError(f"--config {uri} is no YAML of names and values: {_WANTED}")
    if empty := next((name for name in _empty(settings) if name not in optional), None):
        raise UserError(f"--config {uri}: {empty} has no value: give one, or remove the line")
    return text


def _check_structure(uri: str, text: str) -> None:
    """Raises UserError for aliases, which write gigabytes in a few lines, and for deep nesting, which takes minutes."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"--config {uri} has an alias (*name): write its value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(f"--config {uri} is nested more than {MAX_DEPTH} deep: {_WANTED}")


def _check_names(uri: str, node: yaml.Node | None, prefix: str = "") -> None:
    """Raises UserError for a name that is there twice, of which YAML takes the last without a word."""
    if not isinstance(node, yaml.MappingNode):
        return
    names = set()
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in names:
            raise UserError(
                f"--config {uri} has {name} twice (line {key.start_mark.line + 1}): remove all but one"
            )
        names.add(name)
        _check_names(uri, value, f"{name}.")


def _read(uri: str) -> bytes:
    import fsspec

    if "://" not in uri and not os.path.isfile(os.path.expanduser(uri)):
        raise UserError(f"--config {uri}: there is no such file; give a YAML file of settings")
    try:
        with fsspec.open(uri, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except Exception as error:  # each file system has its own
        raise UserError(f"--config {uri} cannot be read ({' '.join(str(error).split())[:200]})") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"--config {uri} is larger than {MAX_BYTES} bytes: {_WANTED}")
    return data


def _empty(settings: dict[str, Json], prefix: str = "") -> Iterator[str]:
    """The names without a value."""
    for name, value in settings.items():
        if value is None:
            yield f"{prefix}{name}"
        elif isinstance(value, dict):
            yield from _empty(value, f"{prefix}{name}.")
