"""Counts and lists in sentences: one grammar for messages, logs and pages."""

from collections.abc import Iterable, Sequence

NUM_LISTED = 10

_REGULAR = "clips encoders epochs files folds models packets parts recordings rows samples speakers splits steps trials turns workers"
_SINGULAR = {"classes": "class", "studies": "study"} | {noun: noun[:-1] for noun in _REGULAR.split()}


def counted(num: int, kind: str) -> str:
    """The number and what is counted, in the singular for 1; `kind` is a noun of this module in the plural.

    Adjectives may precede the noun and a clause may follow it; a kind without such a noun stays as it is.

    >>> counted(2, "hidden files"), counted(1, "hidden files")
    ('2 hidden files', '1 hidden file')
    >>> counted(1, "files that are not audio")
    '1 file that is not audio'
    >>> counted(1, "too short for its transcript")
    '1 too short for its transcript'
    """
    return f"{num} {_singular(kind) if num == 1 else kind}"


def _singular(kind: str) -> str:
    """The kind with its first plural noun, and the verb of a clause after it, in the singular."""
    words = kind.split(" ")
    place = next((place for place, word in enumerate(words) if word in _SINGULAR), None)
    if place is None:
        return kind
    words[place] = _SINGULAR[words[place]]
    return " ".join(words).replace(" that are ", " that is ")


def listed(values: Sequence[object], separator: str = ", ", *, num_shown: int = NUM_LISTED) -> str:
    """The first values with separators between them, and how many more there are.

    >>> listed(["ann", "bob", "eve"], num_shown=2)
    'ann, bob and 1 more'
    """
    shown = separator.join(str(value) for value in values[:num_shown])
    if len(values) <= num_shown:
        return shown
    end = "" if separator == ", " else separator.rstrip()
    return f"{shown}{end} and {len(values) - num_shown} more"


def quoted(values: Iterable[str]) -> str:
    """The values listed in quotes, as they are written in Python.

    >>> quoted(["a b", "c"])
    "'a b', 'c'"
    """
    return listed([repr(value) for value in values])
