"""The timeline of long recordings, as a picture in the run directory."""

from collections import defaultdict

import pyarrow as pa

from w2v2.inference.predictions_table import output_columns
from w2v2.models.model_info import ModelInfo
from w2v2.storage import files as storage

MAX_RECORDINGS = 12


def write_timeline(run: str, rows: pa.Table, info: ModelInfo) -> str:
    """The uri of `<run>/plots/timeline.png`, once it is written: what is predicted of the first recordings over time."""
    from w2v2.reports.plots.style import png
    from w2v2.reports.plots.timeline import timeline

    columns = output_columns(info)
    windows: dict[str, list[tuple[float, float, list[float]]]] = defaultdict(list)
    for row in rows.to_pylist():
        windows[row["clip_id"]].append((row["start_s"], row["end_s"], [row[name] for name in columns]))
    shown = dict(list(windows.items())[:MAX_RECORDINGS])
    is_probability = info.kind != "regression"
    figure = timeline(
        shown, info.names, ylabel="probability" if is_probability else "value", unit_interval=is_probability
    )
    uri = storage.join(run, "plots", "timeline.png")
    storage.write_bytes(uri, png(figure))
    return uri
