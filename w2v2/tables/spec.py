"""The contract of a table: its columns, the key of a row, and which of two rows with the same key is kept."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.errors import UserError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
"""A name of a DuckDB table or a column of BigQuery, which means the same unquoted."""

_COLUMN = re.compile(r'[^"`\\\x00-\x1f\x7f]{1,128}')
"""A name of a column: any name of a class or of a CSV's column without quotation marks, which SQL puts around names."""

TIMESTAMP = pa.timestamp("us", tz="UTC")

Where = Mapping[str, str | int | float]
"""Column name to the value it must equal."""


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """Columns of a table and what makes two rows the same row.

    Of all rows of one group ever committed, those with the greatest newest_by are kept and the others deleted.
    This does not depend on the order of commits or on how often one is repeated, which is what makes them
    exactly once.
    """

    schema: pa.Schema
    """Columns of string, bool, int64, float64, date32, timestamp[us, UTC] or list<float32 or float64>."""
    key: tuple[str, ...]
    """Columns that name a row; never null."""
    group: tuple[str, ...] = ()
    """Columns of the key that name a group of rows computed together, such as the windows of a clip, which become fewer
    when its audio becomes shorter. Empty where each row is its own group."""
    newest_by: str = "created_at"
    """Timestamp column: when the row was computed (not when the run began); the same in a whole group."""
    cluster_by: tuple[str, ...] = ()
    """BigQuery: up to four columns that queries filter by."""
    partition_by: str = ""
    """BigQuery: date or timestamp column, one partition a day."""
    vector: str = ""
    """List column of vectors; its length is in the int64 column `dim`."""
    dim_per: tuple[str, ...] = ()
    """Columns within whose values all vectors have one length."""

    @property
    def unit(self) -> tuple[str, ...]:
        """Columns of a group whose rows are replaced together."""
        return self.group or self.key

    def __post_init__(self) -> None:
        names = self.schema.names
        for name in names:
            if not _COLUMN.fullmatch(name):
                raise UserError(
                    f"column {name!r} cannot be a column of a table: its name must have 1 to 128 characters, none of them "
                    "a quotation mark, a backtick, a backslash or a control character"
                )
        counted = Counter(map(str.lower, names))
        if twice := [name for name in names if counted[name.lower()] > 1]:
            raise UserError(
                f"columns {', '.join(twice)} differ in case alone and are one and the same in a table: rename all but one"
            )
        assert set(self.group) <= set(self.key), f"not in the key: {set(self.group) - set(self.key)}"
        used = [
            *self.key,
            self.newest_by,
            *self.cluster_by,
            *self.dim_per,
            *(["dim", self.vector] if self.vector else []),
        ]
        assert set(used) <= set(names), f"not in the schema: {set(used) - set(names)}"
        assert self.schema.field(self.newest_by).type == TIMESTAMP, "newest_by is a timestamp[us, UTC]"


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Numbers of rows that a commit changed; rows of several parts with the same key count once."""

    inserted: int = 0
    """Rows with a key that the table did not have."""
    replaced: int = 0
    """Rows that replaced an older row with the same key."""
    unchanged: int = 0
    """Rows that the table had already."""
    stale: int = 0
    """Rows left out because the table has newer ones of their group."""
    removed: int = 0
    """Rows removed from the table, as their group was computed again and does not have them any more."""

    @classmethod
    def of_row(cls, counts: Iterable[int]) -> "Commit":
        """The commit from the row that the SQL of sql.count returns."""
        inserted, replaced, unchanged, stale, removed = map(int, counts)
        return cls(inserted=inserted, replaced=replaced, unchanged=unchanged, stale=stale, removed=removed)

    def __add__(self, other: "Commit") -> "Commit":
        return Commit.of_row(
            mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)
        )

    @property
    def num_given(self) -> int:
        """Number of rows of the parts; those of several parts with the same key, and older ones of their group, count once."""
        return self.inserted + self.replaced + self.unchanged + self.stale

    @property
    def pending(self) -> int:
        """Number of rows that the commit inserts, replaces or removes."""
        return self.inserted + self.replaced + self.removed


def embeddings_spec(*, extra_columns: Sequence[str] = ()) -> TableSpec:
    """The spec of embeddings: one row per clip, model, pooling, layer and segment, with `extra_columns` of text."""
    text, number = pa.string(), pa.float64()
    columns = {
        "clip_id": text,
        "model": text,
        "model_digest": text,
        "pooling": text,
        "layer": text,
        "start_s": number,
        "end_s": number,
        "dim": pa.int64(),
        "embedding": pa.list_(pa.float32()),
        "uri": text,
        "checksum": text,
        "sample_rate": pa.int64(),
        "duration_s": number,
    }
    of_the_run = {"run_id": text, "code_version": text, "created_at": TIMESTAMP}
    schema = pa.schema([*columns.items(), *((name, text) for name in extra_columns), *of_the_run.items()])
    return TableSpec(
        schema=schema,
        key=("clip_id", "model", "pooling", "layer", "start_s"),
        group=("clip_id", "model", "pooling", "layer"),
        cluster_by=("model", "pooling", "clip_id"),
        partition_by="created_at",
        vector="embedding",
        dim_per=("model", "pooling"),
    )


def rejects_spec() -> TableSpec:
    """The spec of rejects: one row per clip that a run could not use, with the reason."""
    text = pa.string()
    names = ("run_id", "clip_id", "uri", "reason", "code_version")
    return TableSpec(
        schema=pa.schema([*((name, text) for name in names), ("created_at", TIMESTAMP)]),
        key=("run_id", "clip_id"),
        cluster_by=("run_id",),
        partition_by="created_at",
    )


def concatenated(spec: TableSpec, columns: Sequence[str], batches: Iterable[pa.Table]) -> pa.Table:
    """The rows of the batches, which have these columns of the spec (none named: all)."""
    schema = pa.schema([spec.schema.field(name) for name in list(columns) or spec.schema.names])
    return pa.concat_tables([schema.empty_table(), *batches])


def checked(rows: pa.Table, spec: TableSpec) -> pa.Table:
    """The rows in the spec's columns and types, after all that can be checked without the table.

    Raises:
        UserError: a column is missing, a key is null or a duplicate, a group is of several times, a number
            is NaN or infinite, or a vector's length is not its dim.
    """
    if missing := [name for name in spec.schema.names if name not in rows.column_names]:
        have = ", ".join(rows.column_names)
        raise UserError(f"rows for the table lack the columns {', '.join(missing)}; they have {have}")
    rows = rows.select(spec.schema.names).cast(spec.schema)
    for name in (*spec.key, spec.newest_by, *(["dim", spec.vector] if spec.vector else [])):
        _refuse(rows, spec, pc.is_null(rows[name]), f"{name} is null, and every row needs one")
    for field in spec.schema:
        if pa.types.is_floating(field.type):
            finite = pc.fill_null(pc.is_finite(rows[field.name]), True)
            _refuse(
                rows,
                spec,
                pc.invert(finite),
                f"{field.name} is NaN or infinite: write null where it is unknown",
            )
    if spec.vector:
        _check_vectors(rows, spec)
    if rows.num_rows:
        _check_keys(rows, spec)
    return rows


def _check_keys(rows: pa.Table, spec: TableSpec) -> None:
    counts = rows.group_by(list(spec.key)).aggregate([([], "count_all")])
    _refuse(counts, spec, pc.greater(counts["count_all"], 1), "this key is in more than one row of the part")
    times = rows.group_by(list(spec.unit)).aggregate(
        [(spec.newest_by, "count_distinct"), *((name, "min") for name in spec.key if name not in spec.unit)]
    )
    times = times.rename_columns([name.removesuffix("_min") for name in times.column_names])
    several = pc.greater(times[f"{spec.newest_by}_count_distinct"], 1)
    reason = f"{spec.newest_by} differs between rows of one {', '.join(spec.unit)}, which are computed as one"
    _refuse(times, spec, several, reason)


def _check_vectors(rows: pa.Table, spec: TableSpec) -> None:
    vectors = rows[spec.vector].combine_chunks()
    lengths = pc.list_value_length(vectors)
    wrong = pc.not_equal(pc.cast(lengths, pa.int64()), rows["dim"].combine_chunks())
    _refuse(rows, spec, wrong, f"dim differs from the length of {spec.vector}")
    finite = pc.fill_null(pc.is_finite(pc.list_flatten(vectors)), False)
    bad_rows = pc.list_parent_indices(vectors).filter(pc.invert(finite))
    bad = pc.is_in(pa.array(range(rows.num_rows), pa.int64()), pc.cast(bad_rows, pa.int64()))
    _refuse(rows, spec, bad, f"{spec.vector} has a NaN or infinite number: reject the clip instead")


def _refuse(rows: pa.Table, spec: TableSpec, bad: pa.ChunkedArray | pa.Array, reason: str) -> None:
    culprits = rows.filter(bad)
    if culprits.num_rows:
        key = ", ".join(f"{name}={culprits[name][0].as_py()!r}" for name in spec.key)
        raise UserError(f"row {key} cannot be written (and {culprits.num_rows - 1} more): {reason}")


def check_columns(uri: str, *, existing: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raises UserError if an existing table's columns (name to type) differ from the spec's, in any order."""
    lacks = [f"lacks {name} ({kind})" for name, kind in wanted.items() if name not in existing]
    extra = [f"has {name} ({kind}) too" for name, kind in existing.items() if name not in wanted]
    other = [
        f"has {name} as {existing[name]} where {kind} is needed"
        for name, kind in wanted.items()
        if existing.get(name, kind) != kind
    ]
    if lacks or extra or other:
        ways = ", ".join([*lacks, *other, *extra])
        raise UserError(
            f"table {uri} exists with other columns: it {ways}; use another table or change that one"
        )


def one_dim_error(uri: str, spec: TableSpec, row: Sequence[object]) -> UserError:
    """The error for a row (values of dim_per, least dim, greatest dim) that holds more than one dim."""
    *values, low, high = row
    group = ", ".join(f"{name}={value!r}" for name, value in zip(spec.dim_per, values, strict=True))
    return UserError(
        f"table {uri} would hold vectors of dim {low} and {high} for {group}: "
        "name the model differently or use another table"
    )
