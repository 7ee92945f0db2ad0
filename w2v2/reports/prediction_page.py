"""The page of `w2v2 predict`: the predictions and numbers of recordings, a timeline of long ones, and how it was made."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.inference.predictions_table import output_columns
from w2v2.job_commands import command_of
from w2v2.models.model_info import ModelInfo
from w2v2.redaction import without_home
from w2v2.reports.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Paragraph,
    Score,
    Scores,
    Section,
    Table,
    count,
    number,
    percent,
    words,
)
from w2v2.reports.page import write_page
from w2v2.reports.recordings import corpus_name
from w2v2.reports.run_files import RunFiles
from w2v2.reports.shared_sections import clips_blocks, kicker, pictured, provenance
from w2v2.reports.text import shortened
from w2v2.reports.timeline import MAX_RECORDINGS, timeline_of
from w2v2.storage import files as storage
from w2v2.storage import run_directory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_ROWS_SHOWN = 20


def write_prediction_report(run: str, rows: pa.Table, info: ModelInfo) -> str:
    """The uri of `<run>/report.html`, made with plots/timeline.png, where there are windows, from rows_of's rows.

    Reads metrics.json, config.yaml and rejects.parquet.
    """
    text = storage.read_text(storage.join(run, "config.yaml"))
    files = RunFiles(
        uri=run,
        metrics=run_directory.read_metrics(run),
        config=run_directory.read_settings(run),
        config_text=text,
        manifest=pa.table({}),
        rejects=run_directory.read_table(run, "rejects"),
    )
    has_windows = bool(files.config["window_s"]) and info.kind != "transcript" and len(rows) > 0
    figures = {"timeline": timeline_of(rows, info)} if has_windows else {}
    sections = [
        Section("", headline(files, rows, info)),
        Section("Over time", over_time(files, figures)),
        Section("Predictions", first_rows(files, rows, info)),
        Section("Recordings", clips_blocks(files)),
        Section("How it was made", how_it_was_made(files)),
    ]
    model = without_home(files.metrics["model"]["uri"])
    corpus = corpus_name(files.config["data"])
    title = f"Predictions{f' for {corpus}' if corpus else ''} by {model}"
    return write_page(run, title, sections, kicker=kicker(files), figures=figures)


def headline(run: RunFiles, rows: pa.Table, info: ModelInfo) -> list[Block]:
    """How many recordings have predictions, the totals of the predictions, and where the table is."""
    metrics = run.metrics
    num_predicted = metrics["num_clips"] - metrics["rejected"]
    answer = Score(f"{num_predicted} of {metrics['num_clips']}", "recordings have their predictions")
    facts = {"rows": f"{metrics['num_rows']}", "rejected": f"{metrics['rejected']}"}
    if run.config["window_s"]:
        facts["seconds of a window"] = f"{run.config['window_s']:g}"
    note = (
        "Nothing here says how right these predictions are: the recordings have no labels. "
        f"{command_of('evaluate')} scores the model on recordings that have some."
    )
    return [
        Scores([answer]),
        Paragraph(f"The table is {without_home(metrics['table'])}."),
        Facts(facts),
        *in_all(rows, info),
        Paragraph(note, "footnote"),
    ]


def in_all(rows: pa.Table, info: ModelInfo) -> list[Block]:
    """How often each class is predicted, or the mean of each label's probability or value; nothing for transcripts."""
    if info.kind == "transcript" or not len(rows):
        return []
    means = [pc.mean(rows[column]).as_py() for column in output_columns(info)]
    form = number if info.kind == "regression" else percent
    if info.kind != "classes":
        what = "value" if info.kind == "regression" else "probability"
        table = [[name, mean] for name, mean in zip(info.names, means, strict=True)]
        return [Table("in_all", [words("output"), form(f"mean {what}")], table, "Means over all rows.")]
    counts = {row["values"]: row["counts"] for row in pc.value_counts(rows["predicted"]).to_pylist()}
    lines: list[list[Cell]] = [
        [name, counts.get(name, 0), counts.get(name, 0) / len(rows), mean]
        for name, mean in zip(info.names, means, strict=True)
    ]
    columns = [words("class"), count("rows"), percent("of all"), percent("mean probability")]
    return [Table("in_all", columns, lines, "How often each class is predicted.")]


def over_time(run: RunFiles, figures: Mapping[str, "Figure"]) -> list[Block]:
    """The timeline of the first recordings."""
    caption = (
        f"What is predicted of each window of {run.config['window_s']:g} s, at its middle, in up to {MAX_RECORDINGS} "
        "recordings."
    )
    return pictured(figures, "timeline", caption)


def first_rows(run: RunFiles, rows: pa.Table, info: ModelInfo) -> list[Block]:
    """The first rows of the table of predictions."""
    shown = rows.slice(0, NUM_ROWS_SHOWN).to_pylist()
    columns: list[Column] = [words("clip"), number("from (s)"), number("to (s)")]
    outputs = output_columns(info) if info.kind in ("multi_label", "regression") else []
    match info.kind:
        case "classes":
            columns += [words("predicted"), percent("probability")]
        case "transcript":
            columns += [words("text"), percent("confidence")]
        case "multi_label":
            columns += [percent(name) for name in info.names]
        case _:
            columns += [number(name) for name in info.names]
    lines = [[row["clip_id"], row["start_s"], row["end_s"], *_cells(row, outputs)] for row in shown]
    which = "All" if len(shown) == len(rows) else f"The first {len(shown)} of"
    return [Table("predictions", columns, lines, f"{which} {len(rows)} rows.")] if lines else []


def _cells(row: Mapping[str, Any], outputs: Sequence[str]) -> list[Cell]:
    if "text" in row:
        return [shortened(row["text"], num_characters=300), row["confidence"]]
    return [row[name] for name in outputs] or [row["predicted"], row[f"prob_{row['predicted']}"]]


def how_it_was_made(run: RunFiles) -> list[Block]:
    """The model and the command."""
    facts = {f"model {key}": value for key, value in run.metrics["model"].items()}
    note = "To run it again (recordings that have not changed are not predicted twice):"
    return provenance(run, facts, command_note=note)
