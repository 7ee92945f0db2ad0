"""The command line of every job: settings from defaults, a YAML file and flags; errors in one sentence."""

import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import yaml

from w2v2.config.digest import plain
from w2v2.config.jsonargparse_messages import plain_words
from w2v2.errors import UserError

C = TypeVar("C")


def parse(config_class: type[C], args: Sequence[str] | None = None) -> C:
    """Settings from defaults < --config YAML (local or gs://) < --section.field flags.

    Raises UserError with a sentence that names the field.
    """
    from jsonargparse import ArgumentError, auto_cli, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True, config_read_mode_fsspec_enabled=True)
    try:
        return auto_cli(
            config_class,
            args=_config_first(sys.argv[1:] if args is None else args),
            as_positional=False,
            return_instance=True,
            exit_on_error=False,
            allow_abbrev=False,
        )
    except ArgumentError as error:
        told = plain_words(str(error), _fields(config_class)).replace(
            '"<unicode string>"', "the --config file"
        )
        raise UserError(f"{told}; --help lists all settings") from error


def _fields(config_class: type, prefix: str = "") -> Iterator[str]:
    """All fields with dots, those of sections too."""
    kinds = get_type_hints(config_class)
    for name in (field.name for field in fields(config_class)):
        kind = kinds[name]
        yield f"{prefix}{name}"
        if is_dataclass(kind):
            yield from _fields(kind, f"{prefix}{name}.")  # type: ignore[arg-type]


def _config_first(args: Iterable[str]) -> list[str]:
    """The same arguments with --config in front: jsonargparse lets the later one win, here flags do."""
    words = iter(args)
    files: list[str] = []
    flags: list[str] = []
    for word in words:
        if word == "--config":
            files += [word, *itertools.islice(words, 1)]
        else:
            (files if word.startswith("--config=") else flags).append(word)
    return files + flags


def dump(config: Any) -> str:
    """The settings as YAML that --config reads back to an equal config."""
    return yaml.safe_dump(tree(config), sort_keys=False, allow_unicode=True)


def tree(config: Any) -> dict[str, Any]:
    """The settings as plain dicts, lists and values."""
    return plain(config)


def leading_words(args: Sequence[str], name: str) -> list[str]:
    """The arguments with the words in front of all flags as the list --name."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), args))
    return ([f"--{name}={json.dumps(words)}"] if words else []) + list(args[len(words) :])


def run_job(main: Callable[[C], object], config_class: type[C], *, words: str = "") -> int:
    """The exit code of a job: 0, or 2 with one sentence for what the user can fix.

    words is the field that takes the arguments in front of all flags, for a job that has one.
    """
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING, stream=sys.stdout
    )
    logging.getLogger("w2v2").setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    try:
        args = sys.argv[1:]
        main(parse(config_class, leading_words(args, words) if words else args))
    except UserError as error:
        sys.stdout.flush()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0
