"""The command line of every job: settings from defaults, a YAML file and flags; errors in one sentence."""

import itertools
import json
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import TypeVar, get_type_hints

import yaml

from w2v2.config.checks import refuse_absurd_numbers
from w2v2.config.config_file import read_config_file
from w2v2.config.digest import plain
from w2v2.config.guide import Guide, default_at
from w2v2.config.jsonargparse_messages import plain_words
from w2v2.config.spelling import respelled_flags, respelled_settings
from w2v2.errors import ResumableError, UserError, unwritable_disk
from w2v2.json_types import Json
from w2v2.redaction import RedactingFilter, redacted_traceback, redacted_values

logger = logging.getLogger(__name__)

C = TypeVar("C")


def parse(config_class: type[C], args: Sequence[str]) -> C:
    """Settings from defaults < --config YAML (local or gs://) < --section.field flags.

    Raises UserError with a sentence that names the field.
    """
    fields = tuple(field_paths(config_class))
    files, flags = _files_and_flags(args)
    # config.yaml of a run writes these out, too.
    optional = [path for path in fields if default_at(config_class, path) is None]
    texts = []
    for uri in files:
        text, renamed = _respelled(read_config_file(uri, optional=optional), fields)
        texts.append(text)
        for before, now in renamed.items():
            logger.warning("--config %s: %s is now %s", uri, before, now)
    words = [f"--config={text}" for text in texts]
    return _parsed(config_class, words + respelled_flags(flags, fields))


def parse_text(config_class: type[C], text: str) -> C:
    """Settings from YAML text, such as a run directory keeps, of this version or an earlier one.

    Raises UserError with a sentence that names the field.
    """
    return _parsed(config_class, [f"--config={_respelled(text, tuple(field_paths(config_class)))[0]}"])


def _respelled(text: str, fields: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The YAML text with each earlier name of a setting replaced by its new name, and the replaced names with their new names."""
    settings = yaml.load(text, Loader=_Loader)
    if not isinstance(settings, dict):
        return text, {}
    now, renamed = respelled_settings(settings, fields)
    return (text if now == settings else yaml.safe_dump(now, allow_unicode=True)), renamed


class _Loader(yaml.SafeLoader):
    """A loader of YAML 1.1 that reads 3e-5 as a number; YAML 1.1 itself takes it for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _parsed(config_class: type[C], words: Sequence[str]) -> C:
    from jsonargparse import ArgumentError, auto_cli, set_parsing_settings

    # The docstrings of the fields, half of the time that parsing takes, are for --help alone.
    set_parsing_settings(
        docstring_parse_attribute_docstrings=bool({"-h", "--help"} & set(words)),
        config_read_mode_fsspec_enabled=True,
    )
    try:
        config = auto_cli(
            config_class,
            args=list(words),
            as_positional=False,
            return_instance=True,
            exit_on_error=False,
            allow_abbrev=False,
        )
    except ArgumentError as error:
        message = plain_words(str(error), field_paths(config_class)).replace(
            '"<unicode string>"', "the --config file"
        )
        raise UserError(f"{message}; --help lists all settings") from error
    except OSError as error:  # jsonargparse takes text in place of a section for the name of a file
        raise UserError(
            f"a section of settings is given as a file that cannot be read ({error.strerror}): give its fields; --help "
            "lists all settings"
        ) from error
    refuse_absurd_numbers(config)
    return config


def field_paths(config_class: type, prefix: str = "") -> Iterator[str]:
    """All fields with dots, those of sections too."""
    kinds = get_type_hints(config_class)
    for name in (field.name for field in fields(config_class)):
        kind = kinds[name]
        yield f"{prefix}{name}"
        if is_dataclass(kind):
            yield from field_paths(kind, f"{prefix}{name}.")  # type: ignore[arg-type]


def _files_and_flags(args: Iterable[str]) -> tuple[list[str], list[str]]:
    """The files of --config, and all other arguments. Here flags override the files; in jsonargparse the later one of the two wins."""
    words = iter(args)
    files: list[str] = []
    flags: list[str] = []
    for word in words:
        if word == "--config":
            files += itertools.islice(words, 1)
        elif word.startswith("--config="):
            files.append(word.removeprefix("--config="))
        else:
            flags.append(word)
    return files, flags


def dump(config: object) -> str:
    """The settings as YAML that --config reads back to an equal config, but for secrets in URIs, which are redacted."""
    return yaml.safe_dump(tree(config), sort_keys=False, allow_unicode=True)


def tree(config: object) -> dict[str, Json]:
    """The settings as plain dicts, lists and values, without secrets."""
    return redacted_values(plain(config))


_SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)+=")
"""A flag whose dashes were forgotten, such as data.uri=clips.csv."""


def listed_words(args: Sequence[str], name: str) -> list[str]:
    """The arguments with the words that are neither flags nor values of flags as the list --name.

    >>> listed_words(["runs/a", "--metric", "uar", "runs/b"], "runs")
    ['--runs=["runs/a", "runs/b"]', '--metric', 'uar']
    """
    words: list[str] = []
    flags: list[str] = []
    left = iter(args)
    for arg in left:
        if _SETTING.match(arg):
            flags.append(arg)
        elif arg == "-" or not arg.startswith("-"):
            words.append(arg)
        elif "=" in arg or arg in ("--help", "-h"):
            flags.append(arg)
        else:
            flags += [arg, *itertools.islice(left, 1)]
    return ([f"--{name}={json.dumps(words)}"] if words else []) + flags


def run_job(
    main: Callable[[C], object],
    config_class: type[C],
    args: Sequence[str],
    *,
    guide: Guide | None = None,
    words: str = "",
) -> int:
    """The exit code of a job with these arguments: 0, or 2 after one sentence on what the user can fix; a bug is raised.

    guide is what --help shows; --help all lists every setting. words is the field that takes the arguments
    that belong to no flag, for a job that has such a list.
    """
    match [word for word in args if word in ("-h", "--help")], list(args[-1:]):
        case [_, *_], ["all"]:
            args = ["--help"]
        case [_, *_], _ if guide is not None:
            print(guide.text(config_class))
            return 0
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING, stream=sys.stdout
    )
    logging.getLogger("w2v2").setLevel(logging.INFO)
    # It prints what it logs itself: each retry would be there twice.
    logging.getLogger("huggingface_hub").propagate = False
    for handler in logging.getLogger().handlers:
        handler.addFilter(RedactingFilter())
    sys.excepthook = _print_redacted
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    received: list[int] = []
    _interrupt_at_signals(received)
    try:
        main(parse(config_class, listed_words(args, words) if words else args))
    except Exception as error:
        mistake = error if isinstance(error, ResumableError) else unwritable_disk(error) or error
        if not isinstance(mistake, UserError):
            raise
        sys.stdout.flush()
        print(f"error: {' '.join(str(mistake).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
        return 128 + (received[0] if received else signal.SIGINT)
    return 0


def _print_redacted(kind: type[BaseException], error: BaseException, _: object) -> None:
    """Print the traceback of a bug, redacted, since libraries repeat their arguments: sys.excepthook of a job."""
    sys.stdout.flush()
    print(redacted_traceback(error), end="", file=sys.stderr)


def _interrupt_at_signals(received: list[int]) -> None:
    """Let SIGTERM (of a scheduler) and SIGHUP (of a closed terminal) end a job as Ctrl-C does."""
    # nohup ignores SIGHUP: keep it ignored.
    handled = [
        signal_number
        for signal_number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(signal_number) != signal.SIG_IGN
    ]

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        for signal_number in handled:
            signal.signal(signal_number, signal.SIG_IGN)  # the job is already ending
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for signal_number in handled:
            signal.signal(signal_number, interrupt)
