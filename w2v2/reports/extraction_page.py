"""The page of an extraction: rates, lengths, rejects by reason, and a map of the vectors."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from matplotlib.figure import Figure

from w2v2.inference.extraction import parts_of
from w2v2.reports import plots
from w2v2.reports.html import duration, facts_tag, figure_tag, page, paragraph_tag, table_tag
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.tables.parts import read_part

MAX_POINTS, MAX_PARTS, MAX_COLOURS = 2_000, 20, 8
# Okabe and Ito, the colours that a page swaps for its theme.
_COLOURS = (
    plots.BLUE,
    plots.VERMILLION,
    plots.GREEN,
    plots.PURPLE,
    plots.SKY,
    plots.ORANGE,
    plots.INK,
    plots.MUTED,
)


def write_extract_report(run: str) -> str:
    """The uri of `<run>/report.html`, made with `<run>/plots/*.png` from the run's tables and parts."""
    metrics = json.loads(storage.read_text(storage.join(run, "metrics.json")))
    clips, rejects = run_directory.read_table(run, "manifest"), run_directory.read_table(run, "rejects")
    figures = {}
    lengths = pc.drop_null(clips["duration_s"]).to_numpy()
    if len(lengths):
        figures["lengths"] = length_histogram(lengths)
    vectors, labels = sample(clips, run)
    if len(vectors) > 2:
        figures["map"] = vector_map(vectors, labels)
    for name, figure in figures.items():
        storage.write_bytes(storage.join(run, "plots", f"{name}.png"), plots.png(figure))
    sections = [
        ("", _headline(metrics)),
        ("Clips", _clips(figures, rejects)),
        ("Vectors", _map(figures, len(vectors))),
    ]
    uri = storage.join(run, "report.html")
    title = f"Embeddings of {metrics['encoder']['name']}"
    storage.write_text(uri, page(title, sections, kicker=f"w2v2 {metrics['job']} in {run}"))
    return uri


def sample(clips: pa.Table, run: str) -> tuple[Float[np.ndarray, "points dim"], list[str]]:
    """Vectors of some clips, one a clip, from parts spread over the run, and their labels ('' for none)."""
    parts = parts_of(clips, run)
    chosen = (
        [parts[i] for i in np.unique(np.linspace(0, len(parts) - 1, MAX_PARTS).astype(int))] if parts else []
    )
    if not chosen:
        return np.empty((0, 0), np.float32), []
    rows = pa.concat_tables(
        [read_part(part, ["clip_id", "layer", "start_s", "embedding"]) for part in chosen]
    )
    rows = rows.filter(pc.equal(rows["layer"], rows["layer"][len(rows) - 1]))
    rows = rows.take(np.unique(np.linspace(0, len(rows) - 1, MAX_POINTS).astype(int)))
    vectors = rows["embedding"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    place = pc.index_in(rows["clip_id"], value_set=clips["clip_id"].combine_chunks())
    return vectors, pc.fill_null(clips["label"].take(place), "").to_pylist()


def principal_plane(
    vectors: Float[np.ndarray, "points dim"],
) -> tuple[Float[np.ndarray, "points 2"], list[float]]:
    """Places in the plane of the two largest principal components, and the fraction of variance of each."""
    centered = vectors.astype(np.float64) - vectors.mean(0)
    left, scales, _ = np.linalg.svd(centered, full_matrices=False)
    shares = scales**2 / max(float((scales**2).sum()), 1e-300)
    return left[:, :2] * scales[:2], [float(share) for share in shares[:2]]


def vector_map(vectors: Float[np.ndarray, "points dim"], labels: list[str]) -> Figure:
    """Vectors in their principal plane, coloured by label; rare labels share a colour."""
    places, shares = principal_plane(vectors)
    names = [name for name, _ in Counter(labels).most_common(MAX_COLOURS - 1)]
    with plots.style():
        figure, axes = plots.one(plots.WIDTH, plots.WIDTH)
        for name, colour in zip([*names, "other"], _COLOURS, strict=False):
            own = [i for i, label in enumerate(labels) if (label if label in names else "other") == name]
            if own:
                axes.scatter(
                    places[own, 0],
                    places[own, 1],
                    s=9,
                    color=colour,
                    linewidths=0,
                    label=plots.short(name or "no label"),
                )
        axes.set_xlabel(f"first component, {100 * shares[0]:.0f}% of the variance")
        axes.set_ylabel(f"second component, {100 * shares[1]:.0f}%")
        if len(names) > 1:
            axes.legend(**plots.LEGEND, ncols=4)
    return figure


def length_histogram(lengths_s: Float[np.ndarray, " clips"]) -> Figure:
    """Clips by duration."""
    with plots.style():
        figure, axes = plots.one(plots.WIDTH, 2.2)
        axes.hist(lengths_s, bins=min(40, 5 + len(lengths_s) // 5), color=plots.BLUE)
        axes.set_xlabel("duration (s)")
        axes.set_ylabel("clips")
    return figure


def _headline(metrics: dict[str, Any]) -> str:
    encoder, rows, seconds = metrics["encoder"], metrics["rows"], metrics["seconds"]
    told = (
        f"{metrics['written']} clips written, {metrics['there']} already there, {metrics['rejected']} rejected, "
        f"of {metrics['num_clips']}. The table is {metrics['table']}."
    )
    facts = {
        "clips embedded by this run": str(metrics["num_made"]),
        "audio embedded": duration(3600 * metrics["audio_hours"]),
        "time, all in all": duration(seconds),
        "clips/s": f"{metrics['num_made'] / seconds:.3g}",
        "hours of audio/s": f"{metrics['audio_hours'] / seconds:.3g}",
        "numbers a vector": str(encoder["dim"]),
    }
    head = ["rows", ""]
    settings = [[f"rows {name}", count] for name, count in rows.items()]
    settings += [["encoder", encoder["name"]], ["digest of its weights", encoder["digest"]], ["layers", ", ".join(encoder["layers"])], ["pooling", encoder["pooling"]]]  # fmt: skip
    settings += [[f"version of {name}", value] for name, value in metrics["versions"].items()]
    return (
        paragraph_tag(told)
        + facts_tag(facts)
        + table_tag(head, settings, caption="What the table took in, and from which encoder.")
    )


def _clips(figures: dict[str, Figure], rejects: pa.Table) -> str:
    kinds = Counter(reason.partition(":")[0] for reason in rejects["reason"].to_pylist())
    example = {reason.partition(":")[0]: (clip_id, reason) for clip_id, reason in zip(rejects["clip_id"].to_pylist(), rejects["reason"].to_pylist(), strict=True)}  # fmt: skip
    rows = [
        [kind, count, *(plots.short(text, num_characters=90) for text in example[kind])]
        for kind, count in kinds.most_common()
    ]
    told = (
        table_tag(
            ["reason", "clips", "such as", ""], rows, caption="Rejected clips; all are in rejects.parquet."
        )
        if rows
        else paragraph_tag("No clip was rejected.")
    )
    if "lengths" not in figures:
        return told
    return figure_tag(figures["lengths"], name="lengths", caption="Lengths of the clips.") + told


def _map(figures: dict[str, Figure], num_points: int) -> str:
    if "map" not in figures:
        return paragraph_tag("This run has added no vectors, so there is no map of them.")
    caption = (
        f"{num_points} vectors in the plane of their two largest principal components, coloured by label."
    )
    return figure_tag(figures["map"], name="map", caption=caption)
