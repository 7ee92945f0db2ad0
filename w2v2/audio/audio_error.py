"""The error raised for audio that cannot be used."""

from w2v2.errors import ClipError


class AudioError(ClipError):
    """Raised for a clip that cannot be used; `reject` has the kind and this clip's numbers.

    Kinds: empty, not audio, truncated, damaged, absurd header, absurd samples, segment outside the file,
    too short, too long, not finite, silent.
    """
