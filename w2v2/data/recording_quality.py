"""Recording quality as columns of the clip table, null for clips that an earlier version read without measuring it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from w2v2.audio.quality import Quality
from w2v2.storage.mapped_tables import whole

QUALITY = {field.name: pa.float64() for field in fields(Quality)}
"""The columns, in the order of `audio.quality.Quality`."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How a column is called and written on a page."""

    name: str
    unit: str = ""
    per_unit: float = 1.0
    """The column's values in one unit of the page."""
    num_decimals: int = 1

    def text(self, value: float) -> str:
        """The value in its unit."""
        number = f"{value / self.per_unit:.{self.num_decimals}f}"
        return f"{number} {self.unit}"


MEASURES = {
    "level_db": Measure(name="level", unit="dB"),
    "snr_db": Measure(name="signal-to-noise ratio", unit="dB"),
    "bandwidth_hz": Measure(name="bandwidth", unit="kHz", per_unit=1000, num_decimals=2),
    "silence_fraction": Measure(name="silence", unit="%", per_unit=0.01),
    "clipping_fraction": Measure(name="clipping", unit="%", per_unit=0.01, num_decimals=2),
    "duration_s": Measure(name="duration", unit="s", num_decimals=2),
}
"""Columns of the clip table that describe a recording, those of QUALITY and the duration."""


def recorded_quality(row: Mapping[str, object]) -> Quality | None:
    """The quality in a row with these columns; None where it was not measured."""
    values = {name: row.get(name) for name in QUALITY}
    return None if None in values.values() else Quality(**values)  # type: ignore[arg-type]


def with_quality(clips: pa.Table, qualities: Sequence[Quality | None]) -> pa.Table:
    """The clips with the columns QUALITY; qualities has an item for every clip, in order."""
    for name, kind in QUALITY.items():
        values = [getattr(quality, name) if quality else None for quality in qualities]
        clips = clips.append_column(name, pa.array(values, kind))
    return clips


def measured(clips: pa.Table, name: str) -> Float[np.ndarray, " clips"]:
    """A column of MEASURES; NaN where it is null or, in a table of an earlier version, missing."""
    if name not in clips.column_names:
        return np.full(len(clips), np.nan)
    values = clips[name].cast(pa.float64())
    return whole(values).to_numpy(zero_copy_only=False)
