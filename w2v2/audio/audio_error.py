"""The error of a clip that cannot be used."""

from w2v2.errors import ClipError


class AudioError(ClipError):
    """A clip that cannot be used.

    Kinds: empty, not audio, truncated, damaged, absurd header, absurd samples, segment outside the file,
    too short, too long, not finite, silent.
    """
