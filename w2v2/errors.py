"""Errors that a job reports in one sentence, and the reason why a clip is rejected."""

import errno
import re
import tempfile
from dataclasses import dataclass

from w2v2.redaction import redacted

_LONG = re.compile(r"(\S{300})\S{300,}(\S{50})")
"""A word of hundreds of characters, such as a repeated value; messages show its beginning and end."""


class UserError(ValueError):
    """A mistake the user can fix: one sentence with what is wrong, what was given, what was expected and what to do."""

    def __str__(self) -> str:
        return redacted(_LONG.sub(r"\1...\2", super().__str__()))


class ResumableError(UserError):
    """An interruption that the same command recovers from: the settings are right, a file was lost or could not be written."""


_UNWRITABLE = (
    *("No space left on device", "Disk quota exceeded", "File too large", "Read-only file system"),
    *("database or disk is full", "No usable temporary directory", "failed to offload data block"),
)
"""Messages of the system, SQLite, Python and DuckDB for a disk that is full or read-only, for errors that have no
number."""
_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_IN_RUST = re.compile(r"\(os error (\d+)\)")
"""The end of every error of input and output that a library in Rust raises, such as safetensors."""
_TEXT_ALONE = {"duckdb", "_duckdb", "ray", "multiprocessing", "concurrent"}
"""Libraries whose errors have no number: DuckDB's, and those that hold a worker's traceback as a text."""


def unwritable_disk(error: BaseException) -> ResumableError | None:
    """The sentence for an error of a full or read-only disk, whichever library raised it and however it was reported; else None."""
    for cause in error_chain(error)[::-1]:
        if line := _unwritable(cause):
            return ResumableError(
                f"a disk is full or read-only ({line.strip()[:200]}); free it, or name another folder for temporary "
                f"files than {_temporary_folder()} by TMPDIR, and run the same command again"
            )
    return None


def error_chain(error: BaseException | None) -> list[BaseException]:
    """An error, what it was raised from or what it was raised while handling, and so on."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        # Ray's errors have the error of the worker as an attribute.
        cause = getattr(error, "cause", None)
        error = cause if isinstance(cause, BaseException) else error.__cause__ or error.__context__
    return chain


def sqlite_code(error: BaseException | None) -> int | None:
    """SQLite's primary result code, such as sqlite3.SQLITE_BUSY, of an error or its causes; None where SQLite raised none."""
    codes = (getattr(cause, "sqlite_errorcode", None) for cause in error_chain(error))
    return next((code & 0xFF for code in codes if code is not None), None)


def _unwritable(error: BaseException) -> str:
    """The line of an error's text that says that a disk takes no more; '' for other errors."""
    lines = str(error).splitlines() or [""]
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return lines[0]
    if getattr(error, "sqlite_errorcode", None) is not None:
        return lines[0] if _is_of_full_sqlite(error) else ""
    if not isinstance(error, OSError | UserError):
        for line in lines:
            if (number := _IN_RUST.search(line)) and int(number[1]) in _ERRNOS:
                return line
    roots = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    is_of_tempfile = isinstance(error, FileNotFoundError) and error.filename is None
    if not roots & _TEXT_ALONE and not is_of_tempfile:
        return ""
    return next((line for line in lines if any(words in line for words in _UNWRITABLE)), "")


def _is_of_full_sqlite(error: BaseException) -> bool:
    import sqlite3

    return sqlite_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # none can be written
        return "the present one"


@dataclass(frozen=True, kw_only=True)
class Reject:
    """Why one clip cannot be used."""

    kind: str
    """The category, such as `too short`, by which rejects are counted."""
    detail: str = ""
    """Specifics of this clip: numbers, names, paths, the decoder's message."""
    place: str = ""
    """Where the data names the clip, such as `row 17 of train.csv`."""

    @property
    def reason(self) -> str:
        """Place, kind and detail as one text for people; programs read the fields.

        >>> Reject(kind="too short", detail="0.04 s < audio.min_s 0.1", place="row 17").reason
        'row 17: too short: 0.04 s < audio.min_s 0.1'
        """
        return redacted(": ".join(filter(None, (self.place, self.kind, self.detail))))


class ClipError(ValueError):
    """Raised for one clip that cannot be used; a job counts it as a reject and continues."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)  # the arguments that pickle passes to a copy
        self.reject = Reject(kind=kind, detail=detail)

    def __str__(self) -> str:
        return self.reject.reason
