"""The timeline of long recordings, from the predictions for their windows."""

from collections import defaultdict
from typing import TYPE_CHECKING

import pyarrow as pa

from w2v2.inference.predictions_table import output_columns
from w2v2.models.model_info import ModelInfo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_RECORDINGS = 12


def timeline_of(rows: pa.Table, info: ModelInfo) -> "Figure":
    """The predictions for the first recordings over time."""
    from w2v2.reports.plots.timeline import timeline

    columns = output_columns(info)
    windows: dict[str, list[tuple[float, float, list[float]]]] = defaultdict(list)
    for row in rows.to_pylist():
        windows[row["clip_id"]].append((row["start_s"], row["end_s"], [row[name] for name in columns]))
    shown = dict(list(windows.items())[:MAX_RECORDINGS])
    is_probability = info.kind != "regression"
    return timeline(
        shown, info.names, ylabel="probability" if is_probability else "value", unit_interval=is_probability
    )
