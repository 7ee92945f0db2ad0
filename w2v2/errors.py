"""Errors that a job reports in one sentence, and the reason why a clip is rejected."""

import re
import tempfile
from dataclasses import dataclass

from w2v2.redaction import redacted

_LONG = re.compile(r"(\S{300})\S{300,}(\S{50})")
"""A word, such as a value that is repeated, of which the beginning and the end are enough."""


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
"""What the system, SQLite, Python and DuckDB say of a disk that takes no more; libraries repeat it in errors of their own."""


def unwritable_disk(error: BaseException) -> ResumableError | None:
    """The sentence for an error of a full or read-only disk, whichever library raised it and however it was reported; else None."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        # Ray has the error of a worker as an attribute.
        cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
    for cause in seen[::-1]:
        for line in str(cause).splitlines():
            if any(words in line for words in _UNWRITABLE):
                return ResumableError(
                    f"a disk is full or read-only ({line.strip()[:200]}); free it, or name another folder for temporary "
                    f"files than {_temporary_folder()} by TMPDIR, and run the same command again"
                )
    return None


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
