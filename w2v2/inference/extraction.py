"""The records of an extraction: which clips are still to embed, which were embedded before, and which are in the table.

<run>/parts/*.parquet   rows for the table, written by workers
<run>/done/*.parquet    the outcome of each clip, written after its part; a clip with one is not embedded again
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.digest import repr_digest
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.data.recording_quality import QUALITY
from w2v2.data.rejects import RECORD, recorded_reject
from w2v2.errors import Reject, UserError
from w2v2.inference.clip_digests import inputs_digests, settings_digests
from w2v2.inference.reading import CHECKSUM_IN_TABLE, EMBEDDED, IN_TABLE, REJECTED, UNREADABLE
from w2v2.storage import files as storage
from w2v2.tables.spec import TIMESTAMP, TableSpec, Where, embeddings_spec

logger = logging.getLogger(__name__)

DONE = pa.schema(
    [
        ("clip_id", pa.string()),
        ("uri", pa.string()),
        ("inputs", pa.string()),
        ("fingerprint", pa.string()),
        ("status", pa.string()),
        *RECORD,
        ("checksum", pa.string()),
        ("duration_s", pa.float64()),
        *QUALITY.items(),
        ("num_rows", pa.int64()),
        ("tolerated", pa.string()),
        ("part", pa.string()),
        ("created_at", TIMESTAMP),
    ]
)
"""The outcome of a clip; inputs names all that its vectors depend on, part is the name of their file, made at
created_at (null in records of earlier versions)."""

_REASONS = tuple(name for name, _ in RECORD)
_TO_DO = (
    "clip_id",
    "uri",
    "start_s",
    "end_s",
    "size_bytes",
    "fingerprint",
    "settings",
    "inputs",
    CHECKSUM_IN_TABLE,
)
# Columns of intermediate tables that the final table does not have.
_RESERVED = {*DONE.names, *_TO_DO, "waveform", "vectors", "vectors_in"} - {
    "clip_id",
    "uri",
    "start_s",
    "end_s",
}


@dataclass(frozen=True, kw_only=True)
class ExtractionJob:
    """An extraction: settings and facts about the encoder that every worker needs."""

    config: ExtractConfig
    digest: str
    """The digest of the encoder's weights."""
    num_layers: int
    dim: int
    min_samples: int
    """The fewest samples that give one frame."""
    max_s: float
    """The longest clip that can be embedded as a whole, or in windows, in seconds."""
    layers: tuple[str, ...]
    """The layers' names in the table."""
    run_id: str
    code_version: str

    @property
    def constants(self) -> dict[str, str]:
        """Columns that are the same in every row."""
        encoder = self.config.encoder
        of_model = {"model": encoder.name, "model_digest": self.digest, "pooling": encoder.pooling}
        return of_model | {"run_id": self.run_id, "code_version": self.code_version}


def spec_of(config: ExtractConfig) -> TableSpec:
    """The spec of the table of embeddings, with the digest of the settings and the extra columns of clips.

    Raises UserError where an extra column has the name of one of the table's.
    """
    if ambiguous := sorted(_RESERVED & set(config.extra_columns)):
        raise UserError(
            f"labels: the name {ambiguous[0]!r} has another use here, rename that column of the CSV"
        )
    return embeddings_spec(extra_columns=("settings", *config.extra_columns))


def run_id(run: str) -> str:
    """An id of the run directory, the same for every attempt."""
    return f"{run.rstrip('/').rpartition('/')[2]}-{repr_digest(run)[:8]}"


# -- clips to embed


@runtime_checkable
class Rows(Protocol):
    """A table, or a part of its rows."""

    def read(self, columns: Sequence[str] = (), *, where: Where | None = None) -> pa.Table:
        """Rows as tables.Table.read gives them."""
        ...


def sort_out(clips: pa.Table, job: ExtractionJob, *, done: pa.Table, table: Rows | None) -> pa.Table:
    """The clips with settings, inputs, CHECKSUM_IN_TABLE and the columns of DONE; status is '' for clips to embed.

    `done` are outcomes of earlier attempts; of these and of the table only rows of these clips matter.
    """
    settings = settings_digests(job, clips)
    clips = clips.append_column("settings", settings.now)
    clips = clips.append_column("inputs", inputs_digests(job, clips, settings.now))
    clips = _with_checksums(clips, done)
    rows = _in_table(clips, job, table) if table else None
    checksums = pa.repeat("", len(clips)) if rows is None else _stored(clips, rows, settings.first, job)
    clips = clips.append_column(CHECKSUM_IN_TABLE, checksums)
    done = _reusable(_with_inputs(done, clips, settings.first, job))
    place = pc.index_in(clips["inputs"], value_set=done["inputs"].combine_chunks())
    earlier = done.take(place)
    in_table = pc.and_(pc.not_equal(checksums, ""), pc.equal(checksums, clips["checksum"]))
    outdated = pa.repeat(False, len(clips))
    if rows is not None and not pc.all(in_table).as_py():
        outdated = pc.and_(pc.invert(in_table), _outdated(clips, earlier, rows))
    status = pc.if_else(outdated, "", pc.fill_null(earlier["status"], ""))
    clips = clips.append_column("status", pc.if_else(in_table, IN_TABLE, status))
    for name in (*_REASONS, "tolerated"):
        clips = clips.append_column(name, pc.if_else(in_table, "", pc.fill_null(earlier[name], "")))
    part = pc.fill_null(earlier["part"], "")
    clips = clips.append_column("part", pc.if_else(pc.or_(in_table, outdated), "", part))
    # Columns from which the page is drawn, whether or not any clip is embedded.
    clips = clips.append_column("vectors_in", pc.if_else(outdated, "", part))
    for name in ("duration_s", "num_rows", *QUALITY):
        clips = clips.append_column(name, earlier[name])
    if num_outdated := pc.sum(outdated).as_py():
        logger.info(
            "%d clips were embedded by this run before, but the table has got newer rows of other settings or weights "
            "for them since: they are embedded again",
            num_outdated,
        )
    return clips


def to_do(clips: pa.Table, job: ExtractionJob) -> pa.Table:
    """The clips without an outcome, with the columns that workers need."""
    return clips.filter(pc.equal(clips["status"], "")).select([*_TO_DO, *job.config.extra_columns])


def _with_inputs(done: pa.Table, clips: pa.Table, first_settings: pa.Array, job: ExtractionJob) -> pa.Table:
    """The records of these clips, with inputs of earlier versions replaced by the inputs of this version."""
    if pc.all(pc.is_in(done["inputs"], value_set=clips["inputs"].combine_chunks())).as_py() is not False:
        return done
    place = pc.index_in(done["inputs"], value_set=inputs_digests(job, clips, first_settings))
    inputs = pc.coalesce(clips["inputs"].take(place), done["inputs"])
    return done.set_column(done.column_names.index("inputs"), "inputs", inputs)


def _key(table: pa.Table, *names: str) -> pa.ChunkedArray:
    """One text per row out of several columns, joined by a separator that their texts do not contain."""
    return pc.binary_join_element_wise(*(table[name] for name in names), "\x1f")


def _with_checksums(clips: pa.Table, done: pa.Table) -> pa.Table:
    """Checksums that earlier attempts computed for files that have not changed since."""
    if pc.all(pc.not_equal(clips["checksum"], "")).as_py():  # so it is for files in a bucket
        return clips
    read = done.filter(pc.not_equal(done["checksum"], ""))
    files = ("uri", "fingerprint")
    place = pc.index_in(_key(clips, *files), value_set=_key(read, *files).combine_chunks())
    learnt = pc.fill_null(read["checksum"].take(place), "")
    checksum = pc.if_else(pc.equal(clips["checksum"], ""), learnt, clips["checksum"])
    return clips.set_column(clips.column_names.index("checksum"), "checksum", checksum)


def _reusable(done: pa.Table) -> pa.Table:
    """Outcomes of earlier attempts that another attempt would repeat, the newest first."""
    reusable = done.filter(pc.is_in(done["status"], pa.array([EMBEDDED, REJECTED])))
    return reusable.sort_by([("created_at", "descending")])


STORED_COLUMNS = ("clip_id", "layer", "start_s", "checksum", "model_digest", "settings", "created_at")
"""The columns, config.extra_columns included, that show which vectors of a clip the table has."""


def where_stored(job: ExtractionJob) -> Where:
    """The rows of the table that this job may replace."""
    return {"model": job.config.encoder.name, "pooling": job.config.encoder.pooling}


def _in_table(clips: pa.Table, job: ExtractionJob, table: Rows) -> pa.Table:
    """The table's first row of each clip and layer for this model and pooling, with any weights and settings."""
    rows = table.read(STORED_COLUMNS + job.config.extra_columns, where=where_stored(job))
    # The first window is replaced together with a clip's other windows, so its row records their audio.
    place = pc.index_in(rows["clip_id"], value_set=clips["clip_id"].combine_chunks())
    is_first = pc.equal(rows["start_s"], clips["start_s"].take(place))
    return rows.filter(pc.and_(is_first, pc.is_in(rows["layer"], pa.array(job.layers))))


def _outdated(clips: pa.Table, earlier: pa.Table, rows: pa.Table) -> pa.ChunkedArray:
    """Whether the table has newer rows of each clip than its earlier outcome, so that committing that would change nothing.

    An outcome of a version that did not record its time counts as older.
    """
    newest = rows.group_by("clip_id").aggregate([("created_at", "max")])
    place = pc.index_in(clips["clip_id"], value_set=newest["clip_id"].combine_chunks())
    is_newer = pc.greater(newest["created_at_max"].take(place), earlier["created_at"])
    has_rows = pc.is_valid(place)
    embedded = pc.fill_null(pc.equal(earlier["status"], EMBEDDED), False)
    return pc.and_(pc.and_(has_rows, embedded), pc.fill_null(is_newer, True))


def _stored(clips: pa.Table, rows: pa.Table, first_settings: pa.Array, job: ExtractionJob) -> pa.ChunkedArray:
    """The checksum of each clip's audio if the table has its vectors of all layers under these settings, else ''.

    rows come from _in_table; first_settings are the digests of the same settings by earlier versions.
    """
    names = ("clip_id", "settings", *job.config.extra_columns)
    rows = rows.filter(pc.equal(rows["model_digest"], job.digest))
    groups = rows.group_by([*names, "checksum"]).aggregate([("layer", "count_distinct")])
    whole = groups.filter(pc.equal(groups["layer_count_distinct"], len(job.layers)))
    in_table = _key(whole, *names).combine_chunks()
    checksums = whole["checksum"].take(pc.index_in(_key(clips, *names), value_set=in_table))
    if checksums.null_count:
        before = clips.set_column(clips.column_names.index("settings"), "settings", first_settings)
        place = pc.index_in(_key(before, *names), value_set=in_table)
        checksums = pc.coalesce(checksums, whole["checksum"].take(place))
    return pc.fill_null(checksums, "")


def lost_to_newer(clips: pa.Table, job: ExtractionJob, table: Rows) -> int:
    """The number of written clips for which the table has newer rows, from another run."""
    written = clips.filter(pc.equal(clips["status"], EMBEDDED))
    rows = _in_table(written, job, table)
    in_table = _stored(written, rows, settings_digests(job, written).first, job)
    return pc.sum(pc.not_equal(in_table, written["checksum"])).as_py() or 0


# -- outcomes


def parts_uri(run: str) -> str:
    """The folder of a run's parts."""
    return storage.join(run, "parts")


def with_outcomes(clips: pa.Table, outcomes: pa.Table) -> pa.Table:
    """The clips, with the outcomes of the clips that were embedded now."""
    place = pc.index_in(clips["inputs"], value_set=outcomes["inputs"].combine_chunks())
    for name in ("status", *_REASONS, "part", "checksum", "duration_s", "num_rows", "tolerated", *QUALITY):
        new = outcomes[name].take(place)
        column = pc.if_else(pc.is_valid(place), new, clips[name])
        clips = clips.set_column(clips.column_names.index(name), name, column)
    drawn = pc.if_else(pc.not_equal(clips["part"], ""), clips["part"], clips["vectors_in"])
    return clips.set_column(clips.column_names.index("vectors_in"), "vectors_in", drawn)


def parts_of(clips: pa.Table, run: str) -> list[str]:
    """Uris of the parts with the vectors of these clips that the table must take in, in the order of their first clips."""
    return [storage.join(parts_uri(run), name) for name in clips["part"].unique().to_pylist() if name]


def parts_to_draw(clips: pa.Table, run: str) -> list[str]:
    """Uris of this run's parts with vectors of these clips, whether or not the table has them already."""
    column = "vectors_in" if "vectors_in" in clips.column_names else "part"
    names = sorted(set(clips[column].unique().to_pylist()) - {""})
    return [storage.join(parts_uri(run), name) for name in names]


def rejected(clips: pa.Table) -> list[tuple[str, Reject]]:
    """(clip_id, reject) of the clips that cannot be used."""
    bad = clips.filter(pc.is_in(clips["status"], pa.array([REJECTED, UNREADABLE])))
    rows = bad.select(["clip_id", *_REASONS]).to_pylist()
    return [(row["clip_id"], reject) for row in rows if (reject := recorded_reject(row))]


def counts(clips: pa.Table) -> dict[str, int]:
    """Numbers of clips by outcome: `embedded`, `in_table` (already there) and `rejected`, unreadable ones included."""
    by_status = {item["values"]: item["counts"] for item in clips["status"].value_counts().to_pylist()}
    bad = by_status.get(REJECTED, 0) + by_status.get(UNREADABLE, 0)
    return {"embedded": by_status.get(EMBEDDED, 0), "in_table": by_status.get(IN_TABLE, 0), "rejected": bad}
