"""A benchmark in its run directory: benchmark.parquet, benchmark.json and a plot, with machine and date."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.result import OURS, CaseResult, Comparison, table_of
from w2v2.config import command_line
from w2v2.json_types import Json, JsonObject
from w2v2.machine import describe_run
from w2v2.reports.plots import style as plots
from w2v2.reports.text import shortened
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.versions import library_versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def machine() -> dict[str, Json]:
    """Date, machine, GPU, load and versions, as plain JSON values."""
    import torch

    return describe_run() | {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "load": round(os.getloadavg()[0], 2),
        "versions": library_versions("torch", "transformers", "ray"),
    }


def machine_line(description: JsonObject) -> str:
    """The machine in one line."""
    gpu = f", {description['gpu']}" if description["gpu"] else ""
    versions = ", ".join(f"{name} {number}" for name, number in description["versions"].items())
    return (
        f"{description['date']}: {description['cpu']}, {description['num_cores']} cores, {description['memory_gb']:g} GB{gpu}, "
        f"load {description['load']:g}; {versions}"
    )


def write(config: BenchmarkConfig, results: Sequence[CaseResult], description: dict[str, Json]) -> None:
    """Write the numbers of these cases; numbers of other cases in an earlier table are kept."""
    table = table_of(results)
    if storage.exists(storage.join(config.run, "benchmark.parquet")):
        before = run_directory.read_table(config.run, "benchmark")
        again = pc.is_in(before["case"], value_set=pa.array([result.case for result in results]))
        table = pa.concat_tables([before.filter(pc.invert(again)), table])
    run_directory.write_table(config.run, "benchmark", table)
    for result in results:
        run_directory.write_json(config.run, f"benchmark-{result.case}", summary(config, result, description))
    compared = [comparison for result in results for comparison in result.comparisons]
    if any(len(comparison.seconds) > 1 for comparison in compared):
        figure = plot(results)
        storage.write_bytes(
            storage.join(config.run, "plots", f"benchmark-{'-'.join(config.cases)}.png"), plots.png(figure)
        )


def summary(config: BenchmarkConfig, result: CaseResult, description: Mapping[str, Json]) -> dict[str, Json]:
    """A case as plain JSON: medians, ratios, agreement, settings and machine."""
    comparisons: list[dict[str, Json]] = [
        {
            "part": comparison.part,
            "amount": comparison.amount,
            "unit": comparison.unit,
            "sides": {side: _side(comparison, side) for side in comparison.seconds},
        }
        for comparison in result.comparisons
    ]
    agreements: list[dict[str, Json]] = [
        {
            name: None if value in (float("inf"),) or value != value else value
            for name, value in asdict(agreement).items()
        }
        | {"holds": agreement.holds}
        for agreement in result.agreements
    ]
    return {
        "job": "benchmark",
        "case": result.case,
        "machine": description,
        "comparisons": comparisons,
        "agreements": agreements,
        "notes": list(result.notes),
        "config": command_line.tree(config),
    }


def _side(comparison: Comparison, side: str) -> dict[str, Json]:
    numbers: dict[str, Json] = {
        "seconds": list(comparison.seconds[side]),
        "median_s": comparison.median(side),
    }
    if comparison.cpu_seconds:
        numbers |= {"cpu_seconds": list(comparison.cpu_seconds[side])}
    if side != OURS:
        numbers |= {"ratios": comparison.ratios(side), "wanted": comparison.wanted.get(side)}
    return numbers


def plot(results: Sequence[CaseResult]) -> "Figure":
    """Each side's seconds divided by ours on a log scale, a point for every round."""
    rows = [
        (f"{result.case}, {comparison.part}: {side}", comparison.ratios(side), comparison.wanted.get(side))
        for result in results
        for comparison in result.comparisons
        for side in comparison.seconds
        if side != OURS
    ]
    with plots.style():
        figure, axes = plots.one_panel(8.0, 0.9 + 0.3 * len(rows))
        for at, (_, ratios, wanted) in enumerate(rows):
            axes.scatter(ratios, [at] * len(ratios), s=22, color=plots.BLUE, zorder=3)
            if wanted:
                axes.scatter([wanted], [at], marker="|", s=140, color=plots.VERMILLION)
        axes.axvline(1.0, color=plots.MUTED, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel("seconds over ours; a red bar is what is wanted")
        axes.invert_yaxis()
        plots.with_names(axes, [shortened(name, num_characters=80) for name, *_ in rows])
    return figure
