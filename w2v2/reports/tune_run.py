"""The tables of one tune run, read back from its run directory."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from w2v2.storage import files as storage


@dataclass(frozen=True, kw_only=True)
class TuneRun:
    """What jobs/tune_folds.py left in a run directory, read into memory."""

    uri: str
    metrics: dict[str, Any]
    config: dict[str, Any]
    config_text: str
    trials: pa.Table
    folds: pa.Table
    curves: pa.Table
    predictions: pa.Table
    manifest: pa.Table
    rejects: pa.Table

    @property
    def metric(self) -> str:
        """The metric that the search maximised."""
        return self.metrics["metric"]

    @property
    def best_folds(self) -> pa.Table:
        """The rows of folds.parquet of the best trial, by fold."""
        return self.folds.filter(pc.equal(self.folds["trial"], self.metrics["trial"])).sort_by("fold")

    @property
    def num_folds(self) -> int:
        """How many folds a complete trial runs."""
        return len(self.metrics["folds"][self.metric]["values"])

    @property
    def speaker_metric(self) -> Literal["accuracy", "uar"]:
        """What a speaker is scored by: accuracy where the search maximised it, UAR otherwise."""
        return "accuracy" if self.metric == "accuracy" else "uar"

    @property
    def space(self) -> dict[str, dict[str, Any]]:
        """The searched fields that have a column in trials.parquet, by path."""
        space = self.config["search"]["space"] or {}
        return {path: field for path, field in space.items() if f"params_{path}" in self.trials.column_names}


def read_tune_run(uri: str) -> TuneRun:
    """The tables, metrics and config of a run directory; a file that is missing raises StorageError."""

    def table(name: str) -> pa.Table:
        data = storage.read_bytes(storage.join(uri, f"{name}.parquet"))
        return _without_nan(pq.read_table(pa.BufferReader(data)))

    config_text = storage.read_text(storage.join(uri, "config.yaml"))
    return TuneRun(
        uri=uri,
        metrics=json.loads(
            storage.read_text(storage.join(uri, "metrics.json")), parse_constant=lambda _: None
        ),
        config=yaml.safe_load(config_text),
        config_text=config_text,
        trials=table("trials"),
        folds=table("folds"),
        curves=table("curves"),
        predictions=table("predictions"),
        manifest=table("manifest"),
        rejects=table("rejects"),
    )


def _without_nan(table: pa.Table) -> pa.Table:
    # Undefined is null in what follows; a writer that went through numpy or pandas may have left NaN.
    for i, column in enumerate(table.schema):
        if pa.types.is_floating(column.type):
            values = table.column(i)
            table = table.set_column(i, column, pc.if_else(pc.is_nan(values), None, values))
    return table
