"""The files of a finished run, read back from its run directory for its page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from w2v2.data.groups import among
from w2v2.json_types import JsonObject
from w2v2.reports.earlier_names import with_present_names
from w2v2.reports.text import ERROR_LABELS, METRIC_LABELS
from w2v2.storage import files as storage
from w2v2.storage import run_directory

Tables: TypeAlias = Mapping[str, pa.Table]
"""Tables by the names of their files that a job has in memory at its end, so that they need not be read again."""
NO_TABLES: Tables = {}
NUM_SHARDS_SHOWN = 3
"""The most files of a manifest in several files that are read for a page."""


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The files that every job leaves in its run directory."""

    uri: str
    metrics: JsonObject
    """metrics.json."""
    config: JsonObject
    config_text: str
    manifest: pa.Table
    """The clips that were used."""
    rejects: pa.Table
    """The clips that could not be used, with the reason of each."""


@dataclass(frozen=True, kw_only=True)
class TuneRun(RunFiles):
    """The files of a run of `w2v2 tune-folds`."""

    trials: pa.Table
    folds: pa.Table
    curves: pa.Table
    predictions: pa.Table

    @property
    def metric(self) -> str:
        """The metric that the search optimised."""
        return self.metrics["metric"]

    @property
    def is_text(self) -> bool:
        """Whether the models write transcripts."""
        return self.metrics.get("kind") == "transcript"

    @property
    def labels(self) -> dict[str, str]:
        """The metrics that are defined, by their key in metrics.json, as the page calls them; the searched one first."""
        if not self.is_text:
            return METRIC_LABELS
        has_words = self.metrics["pooled"]["words"] is not None
        labels = {key: label for key, label in ERROR_LABELS.items() if key == "cer" or has_words}
        return {self.metric: labels[self.metric]} | labels

    @property
    def best_folds(self) -> pa.Table:
        """The rows of folds.parquet of the best trial, by fold."""
        return self.folds.filter(pc.equal(self.folds["trial"], self.metrics["trial"])).sort_by("fold")

    @property
    def num_folds(self) -> int:
        """How many folds a complete trial runs."""
        return len(self.metrics["folds"][self.metric]["values"])

    @property
    def speaker_metric(self) -> Literal["accuracy", "uar", "cer"]:
        """The metric of single speakers: accuracy if the search maximised it, else UAR; the CER for transcripts."""
        if self.is_text:
            return "cer"
        return "accuracy" if self.metric == "accuracy" else "uar"

    @property
    def space(self) -> dict[str, JsonObject]:
        """The searched fields that have a column in trials.parquet, by path."""
        space = self.config["search"]["space"] or {}
        return {path: field for path, field in space.items() if f"params_{path}" in self.trials.column_names}


@dataclass(frozen=True, kw_only=True)
class ModelRun(RunFiles):
    """The files of a run that scores one model, or one per fold: finetune, evaluate, baseline."""

    predictions: pa.Table
    """Rows of the scored clips."""
    curves: pa.Table = field(default_factory=lambda: pa.table({"epoch": pa.array([], pa.int64())}))
    """Empty where nothing was trained."""

    @property
    def part(self) -> Literal["split", "fold"]:
        """The column that separates speakers: split, or fold for folds that are held out in turn."""
        return "fold" if self.metrics["job"] == "baseline" else "split"

    @property
    def has_parts(self) -> bool:
        """Whether the clips are in more than one split or fold."""
        return len(self.manifest[self.part].unique()) > 1


@dataclass(frozen=True, kw_only=True)
class PretrainRun(RunFiles):
    """The files of a run of `w2v2 pretrain`."""

    curves: pa.Table
    """One row per epoch and split."""
    steps: pa.Table
    """One row every few steps."""
    code_usage: pa.Table

    @property
    def has_clusters(self) -> bool:
        """Whether clusters were predicted."""
        return self.metrics["objective"] == "clusters"

    @property
    def alarms(self) -> dict[str, float]:
        """The perplexity and the norm of the gradient below which a collapse is looked for."""
        return self.metrics["alarms"]

    def num_speakers(self, split: str) -> int:
        """The number of named speakers of a split."""
        clips = self.manifest.filter(pc.equal(self.manifest["split"], split))
        return len(set(clips["speaker"].to_pylist()) - {""})


def read_tune_run(uri: str, tables: Tables = NO_TABLES) -> TuneRun:
    """The files of a search; one that is missing raises StorageError. tables are some that need not be read."""
    names = ("trials", "folds", "curves", "predictions")
    return TuneRun(**_common(uri, tables), **{name: _table(uri, name, tables) for name in names})


def read_model_run(uri: str, tables: Tables = NO_TABLES) -> ModelRun:
    """The files of the run of a model; one that is missing raises StorageError. tables are some that need not be read.

    curves.parquet may be missing: an evaluation trains nothing. For a fine-tuning only predictions of the test split
    are scored.
    """
    common = _common(uri, tables)
    predictions = _table(uri, "predictions", tables)
    if common["metrics"]["job"] == "finetune":
        predictions = among(predictions, pc.equal(predictions["split"], "test"))
    is_trained = storage.exists(storage.join(uri, "curves.parquet"))
    curves = {"curves": read_table(uri, "curves")} if is_trained else {}
    return ModelRun(**common, predictions=predictions, **curves)


def read_pretrain_run(uri: str) -> PretrainRun:
    """The files of a pre-training; one that is missing raises StorageError."""
    names = ("curves", "steps", "code_usage")
    return PretrainRun(**_common(uri), **{name: read_table(uri, name) for name in names})


def read_run_files(uri: str) -> RunFiles:
    """The files that every run has; one that is missing raises StorageError."""
    return RunFiles(**_common(uri))


def _common(uri: str, tables: Tables = NO_TABLES) -> JsonObject:
    config_text = storage.read_text(storage.join(uri, "config.yaml"))
    metrics = storage.read_text(storage.join(uri, "metrics.json"))
    return {
        "uri": uri,
        # Files written by other programs may have NaN, which becomes None here: undefined.
        "metrics": with_present_names(json.loads(metrics, parse_constant=lambda _: None)),
        "config": yaml.safe_load(config_text),
        "config_text": config_text,
        "manifest": _table(uri, "manifest", tables) if "manifest" in tables else _manifest(uri),
        "rejects": read_table(uri, "rejects"),
    }


def _manifest(uri: str) -> pa.Table:
    """manifest.parquet, or NUM_SHARDS_SHOWN files of a manifest in several files."""
    shards = run_directory.shards_of(uri, "manifest")
    if not shards:
        return read_table(uri, "manifest")
    step = -(-len(shards) // NUM_SHARDS_SHOWN)
    names = [shard.removeprefix(f"{uri}/").removesuffix(".parquet") for shard in shards[::step]]
    return pa.concat_tables([read_table(uri, name) for name in names])


def _table(uri: str, name: str, tables: Tables) -> pa.Table:
    """A table of the run as `read_table` gives it, from the tables at hand if it is among them."""
    if name in tables:
        return _without_nan(run_directory.without_secrets(tables[name]))
    return read_table(uri, name)


def read_table(uri: str, name: str) -> pa.Table:
    """`<uri>/<name>.parquet` with null for NaN, which a writer that went through pandas may have left."""
    return _without_nan(run_directory.read_table(uri, name))


def _without_nan(table: pa.Table) -> pa.Table:
    for i, column in enumerate(table.schema):
        if pa.types.is_floating(column.type):
            values = table.column(i)
            if pc.any(pc.is_nan(values)).as_py():  # else a copy of it would be made
                table = table.set_column(i, column, pc.if_else(pc.is_nan(values), None, values))
    return table
