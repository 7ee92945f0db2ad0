"""The error of a clip that cannot be used."""

from w2v2.errors import ClipError


class AudioError(ClipError):
    """A clip that cannot be used.

    Kinds: empty, not audio, truncated, damaged, absurd header, absurd samples, segment outside the file,
    too short, too long, not finite, silent.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        if not detail:  # a text of this package, whose kind has no colon
            kind, _, detail = kind.partition(": ")
        super().__init__(kind, detail)
