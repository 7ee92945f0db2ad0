"""Names of speakers and classes that look the same: '7' and '07', 'Anna' and 'anna ', accents written in two ways."""

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from w2v2.data.groups import looked_up
from w2v2.wording import listed

logger = logging.getLogger(__name__)

MISSING = (
    "nan", "NaN", "NaT", "<NA>", "#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!",
)  # fmt: skip
"""Texts that pandas and Excel write for a missing value."""
MISSING_SPEAKER = (*MISSING, "None")
"""Texts for a missing name of a speaker; a class, by contrast, may be called None."""

# Letters of Cyrillic (first) and Greek that look like Latin ones.
_LATIN = str.maketrans(
    "\u0410\u0412\u0415\u0405\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0430\u0435\u0456\u0458\u043e\u0440\u0441\u0443\u0445\u0455\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf",
    "ABESIJKMHOPCTYXaeijopcyxsABEZHIKMNOPTYXo",
)
# Typographic variants of apostrophes, quotes and hyphens, and invisible characters.
_PLAIN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u2032`\u00b4", "'") | dict.fromkeys("\u201c\u201d\u201e\u2033", '"') | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | dict.fromkeys("\u034f\u115f\u1160\u2800\u3164\ufe0e\ufe0f", "")
)  # fmt: skip


def alike(name: str) -> str:
    r"""A canonical form, the same for two names that look the same.

    Compatible forms and accents are composed (Unicode NFKC), characters without width dropped; upper and lower case,
    kinds of hyphens and quotes, and runs of spaces count as equal; a name whose letters all look Latin counts as Latin;
    numbers, alone or after letters, are compared by value.

    >>> alike("Anna\u200b ") == alike("ANNA"), alike("007") == alike("7.0"), alike("P01") == alike("p1")
    (True, True, True)
    >>> alike("a1") == alike("a10"), alike("\u0410nna") == alike("Anna"), alike("O\u2019Neil") == alike("o'neil")
    (False, True, True)
    """
    composed = unicodedata.normalize("NFKC", name).translate(_PLAIN)
    visible = "".join(c for c in composed if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace())
    latin = visible.translate(_LATIN)
    words = " ".join((latin if latin.isascii() else visible).casefold().split())
    if re.fullmatch(r"\d+\.0*", words):
        words = words.partition(".")[0]
    return re.sub(r"^(\D*)0+(?=\d)", r"\1", words) if re.fullmatch(r"\D*\d+", words) else words


def merged(clips: pa.Table, column: str, *, merge: bool) -> pa.Table:
    """The clips with names of the column that look the same given the most frequent spelling, if merge is set.

    Without it the names stay unchanged, and a warning lists them.
    """
    counts = clips[column].value_counts().to_pylist()
    groups = spellings({name["values"]: name["counts"] for name in counts})
    if not groups:
        return clips
    if not merge:
        warn_of_spellings(groups, column)
        return clips
    logger.info("%ss merged, each under its commonest spelling: %s", column, _shown(groups))
    chosen = {name: group[0] for group in groups for name in group}
    value_of = {item["values"]: chosen.get(item["values"], item["values"]) for item in counts}
    values = looked_up(clips[column], value_of)
    index = clips.column_names.index(column)
    return clips.set_column(index, clips.schema.field(index), pa.array(values, pa.string()))


def warn_of_spellings(groups: Sequence[Sequence[str]], column: str) -> None:
    """Log a warning about groups of names of a column that look the same, if there are any."""
    if groups:
        logger.warning(
            "%s in several ways and %s as different ones%s: %s; --data.merge_names true merges them",
            f"1 {column} is written" if len(groups) == 1 else f"{len(groups)} {column}s are written",
            "counts" if len(groups) == 1 else "count",
            ", which may put a person on both sides of a fold or split" if column == "speaker" else "",
            _shown(groups),
        )  # fmt: skip


def _shown(groups: Sequence[Sequence[str]]) -> str:
    return listed([" = ".join(repr(name) for name in group) for group in groups], "; ")


def spellings(names: Sequence[str] | Mapping[str, int]) -> list[list[str]]:
    """Groups of different names that look the same, the most frequent of each first; names may be counted already."""
    groups: dict[str, list[str]] = defaultdict(list)
    counts = Counter(names)
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        if name:
            groups[alike(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]
