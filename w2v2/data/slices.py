"""Columns by which clips are sliced for scores: sex, intensity and statement in RAVDESS's file names, and those of a CSV."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import pyarrow as pa

_RAVDESS = re.compile(r"\d\d-\d\d-\d\d-(?P<intensity>0[12])-(?P<statement>0[12])-\d\d-(?P<actor>\d\d)")
_INTENSITIES = {"01": "normal", "02": "strong"}
_STATEMENTS = {"01": "kids are talking", "02": "dogs are sitting"}


def slice_columns(clips: pa.Table, names: Sequence[str]) -> dict[str, list[str]]:
    """The values of every clip by column; "" for a clip without a value.

    names are columns of the clips. Where all clips are named as RAVDESS's (03-01-06-01-02-01-12), sex (actors with an even
    number are women), intensity and statement come with them; the synthetic corpus has the same names.
    """
    values_of = {name: [value or "" for value in clips[name].to_pylist()] for name in names}
    stems = [PurePosixPath(clip_id).stem for clip_id in clips["clip_id"].to_pylist()]
    parsed = [match for match in map(_RAVDESS.fullmatch, stems) if match]
    if not parsed or len(parsed) < len(stems):
        return values_of
    return {
        "sex": ["man" if int(match["actor"]) % 2 else "woman" for match in parsed],
        "intensity": [_INTENSITIES[match["intensity"]] for match in parsed],
        "statement": [_STATEMENTS[match["statement"]] for match in parsed],
        **values_of,
    }
