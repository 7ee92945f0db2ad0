"""Texts without secrets: users, passwords, queries and fragments of URIs, tokens and signatures.

Whatever leaves a process is redacted where it leaves: log records (RedactingFilter), error messages (UserError, Reject),
the records, warnings and errors of workers, which Ray writes to logs of its own (redacting), settings as YAML (config.command_line.tree), metrics and tables of a run directory, pages and model cards. What is meant to
be passed on (pages, model cards) has no home directories either (without_home), and model folders no absolute paths
(public_text).
"""

import contextlib
import logging
import re
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from w2v2.json_types import Json

# Of other schemes a query is part of a name (gs://bucket/a?b.wav) or of a place (duckdb:///file.db?table=a).
# JSON may write the slashes with a backslash in front.
_URI = re.compile(r"\b(?!(?:gs|file|bq|duckdb|sqlite):)([A-Za-z][A-Za-z0-9+.-]*:(?:\\?/){2})([^\s'\"<>]*)")
_USER = re.compile(r"^[^/?#\\]*@")
_QUERY = re.compile(r"[?#].*$", re.DOTALL)
# scp and pip write user:password@host without a scheme.
_USER_AT_HOST = re.compile(r"(?<![\w/.@:-])[\w.+%-]+:[^\s:/@'\"]+@(?=[\w-]+(?:\.[\w-]+)+)")
_NAMES = (
    r"(?:[\w-]*(?:token|secret|passwo?r?d|passphrase|signature|credential|authorization|(?:api|access|private|account)[_-]?key)"
    r"|pwd|sig|awsaccesskeyid|googleaccessid)"
)
# name=value, name%3Dvalue, "name": "value"; not `name: value`, which may be prose.
_ASSIGNED = re.compile(
    rf"""(?i)(?<![\w-])({_NAMES}(?:=|%3D)['\"]?|(?P<quote>['"]){_NAMES}(?P=quote)\s*:\s*['"])(?P<value>[^\s&'",;<>)]+)"""
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+(?=[\w.~+/=-]*[\d_.~+/=-])[\w.~+/=-]{8,}")
# What Hugging Face, Google, GitHub, AWS, OpenAI and Slack issue, and JSON web tokens.
_ISSUED = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|ya29\.[\w-]{10,}|AIza[\w-]{30,}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
SUSPECT = (
    r"(?i)[@?]|(?:[a-z0-9+.-]{3,}|s3):\\?/\\?/\S*#|(?:token|secret|d|passphrase|signature|credential|authorization|key|sig|id)['\"]?(?:=|%3d|\s*:)"
    r"|bearer |basic |hf_|ya29\.|aiza|gh[opsur]_|github_pat|akia|asia|sk-|xox|eyj"
)
"""Every text with a secret has at least one of these marks; texts without any, as most names are, are not searched
further."""
_SUSPECT = re.compile(SUSPECT)
_ABSOLUTE = re.compile(r"(?<![\w.~:/\\-])/(?:[\w.@+~=-]+/)+([\w.@+~=-]+)")
_HOME = re.compile(r"(?<![\w.-])/(?:home|Users)/[^/\s'\":,]+(?=[/\s'\":,]|$)")


def redacted(text: str) -> str:
    """The text without users, passwords, queries and fragments of URIs, and without tokens and signatures.

    >>> redacted("https://me:pw@host/a.wav?X-Goog-Signature=1f: cannot be read")
    'https://***@host/a.wav?*** cannot be read'
    >>> redacted("gs://bucket/a?b.wav, token=hf_x1, me:pw@host.org/a, Authorization: Bearer ya29.a-b_c1")
    'gs://bucket/a?b.wav, token=***, ***@host.org/a, Authorization: Bearer ***'
    """
    if not _SUSPECT.search(text):
        return text
    text = _URI.sub(_without_secrets, text)
    text = _USER_AT_HOST.sub("***@", text)
    text = _ISSUED.sub("***", _BEARER.sub(r"\1 ***", text))
    return _ASSIGNED.sub(_without_value, text)


def redacted_values(values: Mapping[str, Json]) -> dict[str, Json]:
    """The same values, with every text in them redacted."""
    return {name: _with_texts(redacted, value) for name, value in values.items()}


def redacted_traceback(error: BaseException) -> str:
    """The traceback of an error, as Python would print it, redacted."""
    return redacted("".join(traceback.format_exception(error)))


def _without_secrets(match: re.Match[str]) -> str:
    tail = _USER.sub("***@", match[2])
    return match[1] + _QUERY.sub(lambda query: f"{query[0][0]}***", tail)


def _without_value(match: re.Match[str]) -> str:
    return match[0] if match["value"] in ("Bearer", "Basic") else f"{match[1]}***"


def without_home(text: str) -> str:
    """The text with home directories written as `~`, so that it can be passed on."""
    home = str(Path.home()).rstrip("/")
    if home:
        text = re.sub(rf"(?<![\w./-]){re.escape(home)}(?=[/\s'\":,]|$)", "~", text, flags=re.MULTILINE)
    return _HOME.sub("~", text)


def public_text(text: str) -> str:
    """The text as it may be passed on: without secrets and home directories, and with only the last name of absolute paths.

    >>> public_text("/data/ann/corpus"), public_text("trained on gs://bucket/a, as /mnt/runs/base says")
    ('.../corpus', 'trained on gs://bucket/a, as .../base says')
    """
    text = without_home(redacted(text))
    if text.startswith("/") and "\n" not in text:
        return f".../{text.rstrip('/').rpartition('/')[2]}"
    return _ABSOLUTE.sub(r".../\1", text)


def public_values(values: Mapping[str, Json]) -> dict[str, Json]:
    """The same values, with public_text applied to every text in them."""
    return {name: _with_texts(public_text, value) for name, value in values.items()}


def _with_texts(change: Callable[[str], str], value: Json) -> Json:
    match value:
        case str():
            return change(value)
        case Mapping():
            return {name: _with_texts(change, item) for name, item in value.items()}
        case Sequence():
            return [_with_texts(change, item) for item in value]
        case _:
            return value


class RedactingFilter(logging.Filter):
    """Redacts every message that a handler writes, and the traceback that comes with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True: no record is left out."""
        record.msg, record.args = redacted(record.getMessage()), ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redacted_traceback(record.exc_info[1])
        return True


@contextlib.contextmanager
def redacting() -> Iterator[None]:
    """A block, such as a worker's task, whose log records, warnings and errors are redacted, whoever writes them where.

    Blocks of several threads may overlap.
    """
    _OPEN.begin()
    try:
        yield
    except Exception as error:
        redact_error(error)
        raise
    finally:
        _OPEN.end()


class _OpenBlocks:
    """The open blocks in which this process redacts: redaction begins with the first block and ends when no block is open."""

    def __init__(self) -> None:
        self._lock, self._num = threading.Lock(), 0

    def begin(self) -> None:
        with self._lock:
            self._num += 1
            if self._num == 1:
                self._kept = logging.getLogRecordFactory(), warnings.showwarning
                logging.setLogRecordFactory(self._redacted_record)
                warnings.showwarning = self._show_redacted

    def end(self) -> None:
        with self._lock:
            self._num -= 1
            if not self._num:
                record_of, warnings.showwarning = self._kept
                logging.setLogRecordFactory(record_of)

    def _redacted_record(self, *args: object, **settings: object) -> logging.LogRecord:
        record_of, _ = self._kept
        record = record_of(*args, **settings)
        RedactingFilter().filter(record)
        return record

    def _show_redacted(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        _, show = self._kept
        show(redacted(str(message)), category, filename, lineno, file, line)


_OPEN = _OpenBlocks()


def redact_error(error: BaseException) -> None:
    """Redact the texts of an error and of the errors that caused it; the error keeps its class and its place."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        error.args = tuple(redacted(arg) if isinstance(arg, str) else arg for arg in error.args)
        names = [name for name, value in vars(error).items() if isinstance(value, str)]
        if isinstance(error, OSError) and isinstance(error.filename, str):
            names.append("filename")
        for name in names:
            setattr(error, name, redacted(getattr(error, name)))
        error = error.__cause__ or error.__context__ or error
