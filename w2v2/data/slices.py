"""Columns that slice clips for scores: sex, intensity and statement of RAVDESS's file names, columns of a CSV, recording quality."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from w2v2.audio.quality import NARROWBAND_HZ, WIDEBAND_HZ
from w2v2.data.clip_columns import TextColumn
from w2v2.data.recording_quality import MEASURES, Measure, measured
from w2v2.storage.mapped_tables import whole

_RAVDESS = re.compile(r"\d\d-\d\d-\d\d-(?P<intensity>0[12])-(?P<statement>0[12])-\d\d-(?P<actor>\d\d)")
_INTENSITIES = {"01": "normal", "02": "strong"}
_STATEMENTS = {"01": "kids are talking", "02": "dogs are sitting"}

MIN_PART = 0.05
"""Smaller parts of the clips are not scored."""


def slice_columns(clips: pa.Table, names: Sequence[str]) -> dict[str, Sequence[str]]:
    """The values of every clip by column; "" for a clip without a value.

    names are columns of the clips. Where all clips are named as RAVDESS's (03-01-06-01-02-01-12), sex (actors with an even
    number are women), intensity and statement come with them; the synthetic corpus has the same names.
    """
    values_of: dict[str, Sequence[str]] = {
        name: TextColumn(whole(pc.fill_null(clips[name], ""))) for name in names
    }
    if not len(clips) or not _RAVDESS.fullmatch(PurePosixPath(clips["clip_id"][0].as_py()).stem):
        return values_of
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


def quality_slices(clips: pa.Table) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each measure of recording quality with its parts, the lowest first, and the part of every clip; "" for none.

    Parts are thirds of the clips; for the bandwidth they are narrow, medium and wide, for clipping clips with and
    without it. Clips in a part of less than 5 % of all clips, and clips that were not measured, have no part. Measures
    with one part are left out.
    """
    for name, measure in MEASURES.items():
        labels, values = _parts(name, measure, measured(clips, name))
        kept = [label for label in labels if values.count(label) >= max(1, MIN_PART * len(values))]
        if len(kept) > 1:
            yield measure.name, kept, [value if value in kept else "" for value in values]


def _parts(name: str, measure: Measure, values: Float[np.ndarray, " clips"]) -> tuple[list[str], list[str]]:
    is_measured = ~np.isnan(values)
    if not is_measured.any():
        return [], [""] * len(values)
    match name:
        case "clipping_fraction":
            edges, labels = [0.0], ["none", "some"]
        case "bandwidth_hz":
            edges = [NARROWBAND_HZ, WIDEBAND_HZ]
            labels = _between(measure, edges, ("narrow", "medium", "wide"))
        case _:
            edges = np.quantile(values[is_measured], (1 / 3, 2 / 3)).tolist()
            labels = _between(measure, edges, ("lowest third", "middle third", "highest third"))
    place = np.searchsorted(edges, np.where(is_measured, values, 0.0))
    return labels, [labels[at] if has_value else "" for at, has_value in zip(place, is_measured, strict=True)]


def _between(measure: Measure, edges: Sequence[float], names: Sequence[str]) -> list[str]:
    low, high = map(measure.text, edges)
    spans = [f"to {low}", f"{low.removesuffix(f' {measure.unit}')} to {high}", f"from {high}"]
    return [f"{name} ({span})" for name, span in zip(names, spans, strict=True)]
