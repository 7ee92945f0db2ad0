"""The page of an extraction: rates, lengths, rejects by reason, and maps of the vectors."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from matplotlib.figure import Figure

from w2v2.inference.extraction import parts_to_draw
from w2v2.json_types import JsonObject
from w2v2.reports.blocks import Block, Column, Facts, Paragraph, Score, Scores, Section, Side, Table, words
from w2v2.reports.page import write_page
from w2v2.reports.plots.vectors import (
    has_umap,
    length_histogram,
    principal_plane,
    umap_plane,
    vector_map,
)
from w2v2.reports.recording_quality_section import recording_quality
from w2v2.reports.recordings import corpus_name
from w2v2.reports.run_files import RunFiles, read_run_files
from w2v2.reports.shared_sections import clips_blocks, kicker, pictured, provenance
from w2v2.reports.text import duration_text
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.tables.parts import read_part
from w2v2.wording import counted

MAX_POINTS, MAX_PARTS = 2_000, 20
MIN_POINTS_FOR_UMAP = 10
GROUPS = ("label", "speaker")
"""The columns that colour the vectors, each in its own map, where a column has at least two values."""


def write_extraction_report(run: str) -> str:
    """The uri of `<run>/report.html`, made with plots/ and tables/ from the files and parts of an extraction."""
    files = read_run_files(storage.expand(run))
    vectors, rows = sample(files.manifest, files.uri)
    figures = extraction_figures(files, vectors, rows)
    sections = [
        Section("", headline(files.metrics)),
        Section("Clips", [*pictured(figures, "lengths", _lengths_caption(files)), *clips_blocks(files)]),
        Section("Vectors", maps(figures, len(vectors))),
        Section("Recording quality", recording_quality(files.metrics)),
        Section("How it was made", how_it_was_made(files)),
    ]
    title = f"Embeddings of {corpus_name(files.config['data'])}: {files.metrics['encoder']['name']}"
    return write_page(files.uri, title, sections, kicker=kicker(files), figures=figures)


def _lengths_caption(files: RunFiles) -> str:
    """The caption of the histogram of lengths: it shows all clips or, with millions, a sample."""
    num_read, num_clips = len(files.manifest), files.metrics["num_clips"]
    if not run_directory.shards_of(files.uri, "manifest"):
        return "Lengths of the clips."
    return f"Lengths of {num_read} of the {num_clips} clips."


def extraction_figures(
    run: RunFiles, vectors: Float[np.ndarray, "points dim"], rows: pa.Table
) -> dict[str, Figure]:
    """All figures of an extraction by file name; empty figures are left out. rows are the rows of the vectors' clips."""
    figures = {}
    lengths = pc.drop_null(run.manifest["duration_s"]).to_numpy()
    if len(lengths):
        figures["lengths"] = length_histogram(lengths)
    if len(vectors) > 2:
        groups = {name: pc.fill_null(rows[name], "").to_pylist() for name in GROUPS}
        several = {name: values for name, values in groups.items() if len(set(values)) > 1}
        # Without labels and speakers the map still shows whether vectors form groups.
        several = several or {"label": groups["label"]}
        for method, (places, axis_names) in planes(vectors).items():
            for name, values in several.items():
                figures[f"{method}_{name}"] = vector_map(places, values, axis_names=axis_names)
    return figures


def planes(
    vectors: Float[np.ndarray, "points dim"],
) -> dict[str, tuple[Float[np.ndarray, "points 2"], tuple[str, str]]]:
    """Places of the vectors and names of the axes, by principal components and, where it is installed, by UMAP."""
    places, shares = principal_plane(vectors)
    axes = (
        f"first component, {100 * shares[0]:.0f}% of the variance",
        f"second component, {100 * shares[1]:.0f}%",
    )
    maps = {"map": (places, axes)}
    if len(vectors) > MIN_POINTS_FOR_UMAP and has_umap():
        maps["umap"] = (umap_plane(vectors), ("UMAP 1", "UMAP 2"))
    return maps


def sample(clips: pa.Table, run: str) -> tuple[Float[np.ndarray, "points dim"], pa.Table]:
    """Vectors of some clips, one a clip, from parts spread over the run, and the rows of their clips."""
    parts = parts_to_draw(clips, run)
    if not parts:
        return np.empty((0, 0), np.float32), clips.slice(0, 0)
    chosen = [parts[i] for i in np.unique(np.linspace(0, len(parts) - 1, MAX_PARTS).astype(int))]
    rows = pa.concat_tables(
        [read_part(part, ["clip_id", "layer", "start_s", "embedding"]) for part in chosen]
    )
    rows = rows.filter(pc.equal(rows["layer"], rows["layer"][len(rows) - 1]))
    rows = rows.take(np.unique(np.linspace(0, len(rows) - 1, MAX_POINTS).astype(int)))
    vectors = rows["embedding"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    place = pc.index_in(rows["clip_id"], value_set=clips["clip_id"].combine_chunks())
    return vectors, clips.take(place)


def headline(metrics: JsonObject) -> list[Block]:
    """How many clips are in the table now, at what rate, and where the table is."""
    seconds = metrics["seconds"]
    num_in_table = metrics["written"] + metrics["in_table"]
    answer = Score(
        f"{num_in_table} of {metrics['num_clips']}", f"clips have their vectors in {metrics['table']}"
    )
    text = (
        f"{counted(metrics['written'], 'clips')} written by this run, {metrics['in_table']} already in the table, "
        f"{metrics['rejected']} rejected."
    )
    facts = {
        "clips embedded by this run": str(metrics["num_made"]),
        "audio embedded": duration_text(3600 * metrics["audio_hours"]),
        "wall time": duration_text(seconds),
        "numbers per vector": str(metrics["encoder"]["dim"]),
    }
    if metrics["num_made"]:
        # A run that found everything done has no rate.
        facts["clips/s"] = f"{metrics['num_made'] / seconds:.3g}"
        facts["hours of audio/s"] = f"{metrics['audio_hours'] / seconds:.3g}"
    rows = [[name, number] for name, number in metrics["rows"].items()]
    columns = [words("rows"), Column("number", is_number=True)]
    return [
        Scores([answer]),
        Paragraph(text),
        Facts(facts),
        Table("rows", columns, rows, "What the table took in."),
    ]


def maps(figures: Mapping[str, Figure], num_points: int) -> list[Block]:
    """The maps of the vectors next to each other, or why there is none."""
    captions = {
        "map": "in the plane of their two largest principal components",
        "umap": "placed by UMAP, which keeps neighbours but not distances",
    }
    rows = [
        [
            picture
            for name in GROUPS
            if (
                picture := pictured(
                    figures, f"{method}_{name}", f"{num_points} vectors {how}, coloured by {name}."
                )
            )
        ]
        for method, how in captions.items()
    ]
    if not any(rows):
        return [Paragraph("This run has added no vectors, so there is no map of them.")]
    return [Side(pictures) for pictures in rows if pictures]


def how_it_was_made(run: RunFiles) -> list[Block]:
    """The encoder, the versions and the command."""
    encoder = run.metrics["encoder"]
    facts = {
        "encoder": encoder["name"],
        "digest of its weights": encoder["digest"],
        "layers": ", ".join(encoder["layers"]),
        "pooling": encoder["pooling"],
    }
    return provenance(run, facts, command_note="To run it again (finished clips are not computed twice):")
