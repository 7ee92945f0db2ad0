"""The run directory: a run's settings, tables and numbers, by fixed names, local or gs://."""

import contextlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from w2v2.config.command_line import dump, parse_text
from w2v2.config.digest import differences
from w2v2.config.job import JobConfig
from w2v2.errors import UserError
from w2v2.json_types import Json, JsonObject
from w2v2.kept_warnings import kept_warnings
from w2v2.redaction import SUSPECT, redacted, redacted_values
from w2v2.storage import files as storage
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import load_json, parse_json, parse_parquet, seal_json
from w2v2.wording import counted

logger = logging.getLogger(__name__)

SETTINGS = b"w2v2.settings"
"""Key of manifest.parquet's metadata under which the run's settings are, sealed with it."""

COMPARED_COLUMNS = ("label", "speaker", "fold", "split", "audio_digest", "text")
"""Columns of a manifest that come from the data; the columns of targets are compared, too."""

NUM_SHOWN = 4


def open_or_continue(config: JobConfig) -> bool:
    """Whether the run directory holds an earlier part of this run; its config.yaml is this config afterwards.

    Settings may change until keep_manifest: nothing was computed before. Afterwards only the settings in config.resumable
    may change, and the place of the directory, so that a copied or moved run continues. Raises UserError when the
    directory holds a run with other settings.
    """
    is_continued = check_same_settings(config)
    storage.write_text(storage.join(config.run, "config.yaml"), dump(config))
    return is_continued


def check_same_settings(config: JobConfig) -> bool:
    """Whether the run directory holds an earlier part of this run; nothing is written.

    Raises UserError when it holds a run with other settings.
    """
    before = _earlier_settings(config.run)
    if before is not None:
        _check_same_settings(config, before)
    return before is not None


def _earlier_settings(run: str) -> str | None:
    """The settings, as YAML, of an earlier attempt that has computed something; None where there is none."""
    manifest = _earlier_manifest(run)
    if manifest is None and not storage.exists(storage.join(run, "manifest.parquet")):
        return None
    sealed = (manifest.schema.metadata or {}).get(SETTINGS) if manifest is not None else None
    if sealed is not None:
        return sealed.decode()
    try:
        return storage.read_text(storage.join(run, "config.yaml"))
    except storage.NotFoundError:
        return None


def _earlier_manifest(run: str) -> pa.Table | None:
    """The manifest of an earlier attempt; None where there is none that is whole."""
    try:
        return read_table(run, "manifest")
    except storage.NotFoundError:
        return None
    except storage.DamagedError as error:
        logger.warning("%s: it is written again, from the clips as they are now", error)
        return None


def _check_same_settings(config: JobConfig, text: str) -> None:
    uri = storage.join(config.run, "config.yaml")
    try:
        before = parse_text(type(config), text)
    except UserError as error:
        raise UserError(
            f"{config.run} holds a run of another job or version, whose settings ({uri}) this job does not have ({error}): give this run a "
            "directory of its own with --run"
        ) from error
    besides = ("run", *config.resumable)
    if not differences(before, config, besides=besides):
        return
    # The kept settings are redacted, so a renewed signature in a uri is not another setting.
    now = parse_text(type(config), dump(config))
    if changes := differences(before, now, besides=besides):
        shown = [f"{path} = {old!r}, now it is {new!r}" for path, (old, new) in changes.items()]
        more = f" and {len(shown) - NUM_SHOWN} more" if len(shown) > NUM_SHOWN else ""
        raise UserError(
            f"{config.run} holds a run with {'; '.join(shown[:NUM_SHOWN])}{more}: give this run a directory of its own "
            f"with --run, or the settings of the old one with --config {uri}"
        )


def keep_manifest(run: str, clips: pa.Table, rejects: pa.Table) -> None:
    """Write manifest.parquet, with the run's settings, and rejects.parquet.

    Raises UserError where an earlier attempt had other clips.
    """
    before = _earlier_manifest(run)
    if before is not None:
        _check_same_clips(run, without_secrets(before), without_secrets(clips))
    write_table(run, "manifest", clips, metadata=_settings_metadata(run))
    write_table(run, "rejects", rejects)


def _settings_metadata(run: str) -> dict[bytes, bytes]:
    try:
        return {SETTINGS: storage.read_bytes(storage.join(run, "config.yaml"))}
    except storage.NotFoundError:
        return {}


def _check_same_clips(run: str, before: pa.Table, now: pa.Table) -> None:
    # Settings are compared elsewhere, with config.yaml; this compares the clips as they were read from the data.
    names = [name for name in before.column_names if name in COMPARED_COLUMNS or name.startswith("target_")]
    columns = ["clip_id", *(name for name in names if name in now.column_names)]
    in_order = [table.select(columns).sort_by("clip_id").combine_chunks() for table in (before, now)]
    if in_order[0].equals(in_order[1]):  # fast: no Python object for each clip
        return
    old = {tuple(row.values()) for row in before.select(columns).to_pylist()}
    new = {tuple(row.values()) for row in now.select(columns).to_pylist()}
    if old != new:
        example = sorted(old ^ new)[0]
        raise UserError(
            f"the data of {run} has changed since the run began: {counted(len(new - old), 'clips')} added or changed, "
            f"{len(old - new)} removed or changed (such as {example[0]}); earlier and later scores would not be "
            "of the same clips, so give this run a directory of its own with --run"
        )


def keep_encoders(run: str, digests: Mapping[str, str]) -> None:
    """Write encoders.json, the digest of the weights of each encoder by name.

    Raises UserError where an earlier attempt had other weights of that name, read by the same version of transformers.
    """
    uri = storage.join(run, "encoders.json")
    kept: dict[str, Any] = {"transformers": version("transformers"), "digests": dict(digests)}
    before = load_json(uri, storage.read_bytes(uri)) if storage.exists(uri) else kept
    if before["transformers"] == kept["transformers"]:
        for name in sorted(before["digests"].keys() & digests.keys()):
            if before["digests"][name] != digests[name]:
                raise UserError(
                    f"the weights of encoder {name!r} have changed since {run} began (digest {before['digests'][name]}, now "
                    f"{digests[name]}): earlier and later folds would use different weights, so give this run a "
                    "directory of its own with --run"
                )
    storage.write_text(uri, json.dumps(kept, indent=2) + "\n")


def write_table(
    run: str,
    name: str,
    table: pa.Table,
    *,
    metadata: Mapping[bytes, bytes] | None = None,
    digests: Collection[str] = (),
) -> None:
    """Write `<run>/<name>.parquet`, sealed and without secrets in its texts; metadata are added to the schema's metadata.

    digests names columns that this package makes, such as audio_digest; they hold no texts of a user and are not redacted.
    """
    if metadata:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    body = to_parquet(without_secrets(table, besides=digests), sealed=True)
    storage.write_bytes(storage.join(run, f"{name}.parquet"), body)


def write_shard(
    run: str, name: str, table: pa.Table, number: int, *, of: int, digests: Collection[str] = ()
) -> None:
    """Write shard `number` of the `of` shards of a table, as write_table does.

    A table of one shard is `<run>/<name>.parquet`; more are `<run>/<name>/00000.parquet` and so on. After the last shard,
    files of an earlier attempt with another number of shards are removed.
    """
    write_table(run, name if of == 1 else f"{name}/{number:05d}", table, digests=digests)
    if number + 1 < of:
        return
    folder = storage.join(run, name)
    if of > 1:
        storage.delete(f"{folder}.parquet")
    kept = {f"{folder}/{shard:05d}.parquet" for shard in range(of)} if of > 1 else set()
    for uri in shards_of(run, name):
        if uri not in kept:
            storage.delete(uri)


def shards_of(run: str, name: str) -> list[str]:
    """Uris of the files of a table in `<run>/<name>/`, in order; none where it is one file."""
    folder = storage.join(run, name)
    return [info.uri for info in storage.list_files(folder)] if storage.exists(folder) else []


def without_secrets(table: pa.Table, *, besides: Collection[str] = ()) -> pa.Table:
    """The table, with secrets in its text columns redacted; `besides` names columns that stay as they are."""
    for index, field in enumerate(table.schema):
        if not pa.types.is_string(field.type) or field.name in besides:
            continue
        suspects = pc.indices_nonzero(pc.match_substring_regex(table[index], SUSPECT)).to_pylist()
        if suspects:
            texts = table[index].to_pylist()
            for row in suspects:
                texts[row] = redacted(texts[row])
            table = table.set_column(index, field, pa.array(texts, field.type))
    return table


def read_table(run: str, name: str) -> pa.Table:
    """Read `<run>/<name>.parquet`. Raises NotFoundError, and DamagedError where its bytes were changed."""
    uri = storage.join(run, f"{name}.parquet")
    return parse_parquet(uri, storage.read_bytes(uri))


def write_metrics(run: str, metrics: Mapping[str, Json]) -> None:
    """Write `<run>/metrics.json`, sealed, with the warnings of the job and its workers."""
    shown = redacted_values({**metrics, "warnings": kept_warnings()})
    json.dumps(shown, allow_nan=False)  # an undefined number is None
    storage.write_text(storage.join(run, "metrics.json"), seal_json(shown, indent=2) + "\n")


def read_metrics(run: str) -> JsonObject:
    """The content of `<run>/metrics.json`. Raises NotFoundError, and DamagedError where it was changed."""
    uri = storage.join(run, "metrics.json")
    return parse_json(uri, storage.read_bytes(uri))


def read_settings(run: str) -> JsonObject:
    """The content of `<run>/config.yaml`. Raises NotFoundError, and DamagedError where it is no object of YAML."""
    uri = storage.join(run, "config.yaml")
    try:
        settings = yaml.safe_load(storage.read_text(uri))
    except yaml.YAMLError as error:
        raise storage.DamagedError(f"{uri}: damaged: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(settings, dict):
        raise storage.DamagedError(f"{uri}: damaged: a {type(settings).__name__}, where settings were wanted")
    return settings


@contextlib.contextmanager
def finished_run(run: str) -> Iterator[None]:
    """A block that reads a finished run. Raises UserError where one of the run's files is damaged."""
    try:
        yield
    except storage.DamagedError as error:
        raise UserError(
            f"{error}; copy the run directory {run} again, or give the command of the run again, which writes it anew"
        ) from error


def write_json(run: str, name: str, value: Mapping[str, Json]) -> None:
    """Write `<run>/<name>.json`."""
    storage.write_text(
        storage.join(run, f"{name}.json"),
        json.dumps(redacted_values(value), indent=2, allow_nan=False) + "\n",
    )
