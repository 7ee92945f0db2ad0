"""The errors that every job reports in a sentence, and why one clip cannot be used."""

from dataclasses import dataclass

from w2v2.redaction import redacted


class UserError(ValueError):
    """A mistake the user can fix: one sentence with what is wrong, what was given, what was expected and what to do."""

    def __str__(self) -> str:
        return redacted(super().__str__())


class ResumableError(UserError):
    """Nothing is wrong with the settings or a trial: something is gone that the same command makes again."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """Why one clip cannot be used."""

    kind: str
    """The same for all clips that lack the same, such as `too short`; rejects are counted by it."""
    detail: str = ""
    """What it is of this clip: numbers, names, paths, the decoder's own words."""
    place: str = ""
    """Where the clip is named, such as `row 17 of train.csv`."""

    @property
    def reason(self) -> str:
        """Place, kind and detail as one text, for a person to read: no program takes it apart again.

        >>> Reject(kind="too short", detail="0.04 s < audio.min_s 0.1", place="row 17").reason
        'row 17: too short: 0.04 s < audio.min_s 0.1'
        """
        return redacted(": ".join(filter(None, (self.place, self.kind, self.detail))))


class ClipError(ValueError):
    """One clip that cannot be used; the others can."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)  # as pickle hands them to a copy
        self.reject = Reject(kind=kind, detail=detail)

    def __str__(self) -> str:
        return self.reject.reason
