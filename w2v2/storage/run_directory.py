"""The run directory: a run's settings, tables and numbers, by fixed names, local or gs://."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from w2v2.config.command_line import dump
from w2v2.errors import UserError
from w2v2.storage import files as storage
from w2v2.storage.parquet import to_parquet

logger = logging.getLogger(__name__)

MAY_CHANGE = (
    "search.num_trials",
    "search.max_concurrent_trials",
    "search.cpus_per_trial",
    "search.gpus_per_trial",
    "search.workers_per_fold",
    "baseline",
    "data.max_reject_fraction",
    "data.num_readers",
    "cache.uri",
)
"""Settings that do not change what a trial's score is, so a run may go on with others."""


SAID = ("label", "speaker", "fold", "split", "audio_digest")


def open_or_continue(config: Any) -> bool:
    """Whether the run directory holds an earlier part of this run; its config.yaml is this config afterwards.

    Settings may change until keep_manifest: nothing was computed before that. Raises UserError when the
    directory holds a run with other settings.
    """
    uri = storage.join(config.run, "config.yaml")
    continued = storage.exists(uri) and storage.exists(storage.join(config.run, "manifest.parquet"))
    if continued:
        before, now = _flat(yaml.safe_load(storage.read_text(uri))), _flat(yaml.safe_load(dump(config)))
        for path in sorted(before.keys() | now.keys()):
            if path not in MAY_CHANGE and before.get(path) != now.get(path):
                raise UserError(
                    f"{config.run} holds a run with {path} = {before.get(path)!r}, now it is {now.get(path)!r}: "
                    "give this run a directory of its own with --run, or the settings of the old one with "
                    f"--config {uri}"
                )
    storage.write_text(uri, dump(config))
    return continued


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}.{name}" if prefix else name)
    return flat


def keep_manifest(run: str, clips: pa.Table, rejects: pa.Table) -> None:
    """Write manifest.parquet and rejects.parquet; a continued run must have the very same clips."""
    if storage.exists(storage.join(run, "manifest.parquet")):
        _same_clips(run, read_table(run, "manifest"), clips)
    write_table(run, "manifest", clips)
    write_table(run, "rejects", rejects)


def _same_clips(run: str, before: pa.Table, now: pa.Table) -> None:
    # What is asked for is in config.yaml; here, what the data said.
    told = [name for name in before.column_names if name in SAID or name.startswith("target_")]
    columns = ["clip_id", *(name for name in told if name in now.column_names)]
    old = {tuple(row.values()) for row in before.select(columns).to_pylist()}
    new = {tuple(row.values()) for row in now.select(columns).to_pylist()}
    if old != new:
        example = sorted(old ^ new)[0]
        raise UserError(
            f"the data of {run} has changed since the run began: {len(new - old)} clips are new or other, "
            f"{len(old - new)} are gone or were other (such as {example[0]}); scores before and after would not be "
            "of the same clips, so give this run a directory of its own with --run"
        )


def write_table(run: str, name: str, table: pa.Table) -> None:
    """Write `<run>/<name>.parquet`."""
    storage.write_bytes(storage.join(run, f"{name}.parquet"), to_parquet(table))


def read_table(run: str, name: str) -> pa.Table:
    """Read `<run>/<name>.parquet`."""
    return pq.read_table(pa.BufferReader(storage.read_bytes(storage.join(run, f"{name}.parquet"))))


def write_json(run: str, name: str, value: Mapping[str, Any]) -> None:
    """Write `<run>/<name>.json`."""
    storage.write_text(storage.join(run, f"{name}.json"), json.dumps(value, indent=2, allow_nan=False) + "\n")
