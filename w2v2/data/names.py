"""Names of speakers and classes that look the same: '7' and '07', 'Anna' and 'anna ', accents written in two ways."""

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

import pyarrow as pa

from w2v2.wording import listed

logger = logging.getLogger(__name__)

MISSING = ("nan", "NaN", "NaT", "<NA>", "#N/A")
"""How pandas and Excel write a missing value."""


def alike(name: str) -> str:
    r"""A canonical form, the same for two names that look the same.

    Compatible forms and accents are composed (Unicode NFKC), characters without width dropped, upper and lower
    case and runs of spaces are one, and numbers are compared by value.

    >>> alike("Anna\u200b ") == alike("ANNA"), alike("007") == alike("7.0"), alike("a1") == alike("a10")
    (True, True, False)
    """
    composed = unicodedata.normalize("NFKC", name)
    visible = "".join(c for c in composed if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace())
    words = " ".join(visible.casefold().split())
    return (
        re.sub(r"^0+(?=\d)", "", re.sub(r"\.0*$", "", words)) if re.fullmatch(r"\d+(\.0*)?", words) else words
    )


def merged(clips: pa.Table, column: str, *, merge: bool) -> pa.Table:
    """The clips with names of the column that look the same given the most frequent spelling, if merge is set.

    Without it the names stay unchanged, and a warning lists them.
    """
    groups = spellings(clips[column].to_pylist())
    if not groups:
        return clips
    shown = listed([" = ".join(repr(name) for name in group) for group in groups], "; ")
    if not merge:
        logger.warning(
            "%d %ss are written in several ways and count as different ones, which may put a person on both sides of "
            "a fold or split: %s; --data.merge_names true merges them",
            len(groups), column, shown,
        )  # fmt: skip
        return clips
    logger.info("%ss merged, each under its commonest spelling: %s", column, shown)
    chosen = {name: group[0] for group in groups for name in group}
    values = [chosen.get(name, name) for name in clips[column].to_pylist()]
    index = clips.column_names.index(column)
    return clips.set_column(index, clips.schema.field(index), pa.array(values, pa.string()))


def spellings(names: Sequence[str]) -> list[list[str]]:
    """Groups of different names that look the same, the commonest of each first."""
    groups: dict[str, list[str]] = defaultdict(list)
    counts = Counter(names)
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        if name:
            groups[alike(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]
