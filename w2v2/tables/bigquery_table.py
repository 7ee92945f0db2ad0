"""A table in BigQuery: parts by a load job into a staging table (10,000 each), checks, one MERGE.

Nearest embeddings, in SQL (one length per search, so filter by model): SELECT base.clip_id, distance FROM
VECTOR_SEARCH((SELECT * FROM `p.d.t` WHERE model = @model), 'embedding', (SELECT @vector AS embedding),
top_k => 10, distance_type => 'COSINE').
"""

import datetime
import io
import os
import re
import tempfile
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from w2v2.errors import UserError
from w2v2.storage import files as storage
from w2v2.tables import parts as table_parts
from w2v2.tables import sql as table_sql
from w2v2.tables.bigquery_jobs import REQUEST_S, Job, calls, in_words, retries, run_until
from w2v2.tables.spec import (
    NAME,
    TIMESTAMP,
    Commit,
    TableSpec,
    Where,
    check_columns,
    concatenated,
    one_dim_error,
)

# A name from the user goes into SQL or a URL only if all of it matches this.
_URI = re.compile(
    r"bq://((?:[a-z0-9.-]{1,60}:)?[a-z][a-z0-9-]{4,28}[a-z0-9])"
    r"\.([A-Za-z0-9_]{1,1024})\.([A-Za-z0-9_-]{1,900})"
)
_QUOTE = "`"
_MAX_URIS = 10_000
_STAGING_DAYS = 7


class BigQueryTable:
    """The table bq://project.dataset.table; it is made where missing, its dataset is not.

    Rows get in exactly once, even if a commit is killed anywhere and run again: job ids are hashes of the parts'
    content, so that a job is looked up and waited for and not started twice; and any step that is repeated all the
    same is a load into an empty staging table or a MERGE that finds nothing newer.
    """

    bytes_per_commit = 10**12

    def __init__(self, uri: str, spec: TableSpec) -> None:
        match = _parsed(uri)
        _check_names(uri, spec)
        self.uri, self._spec, self._id = uri, spec, ".".join(match.groups())
        with in_words(self.uri):
            dataset = _client(match[1]).get_dataset(f"{match[1]}.{match[2]}", **calls())
            # Jobs run where the dataset is, or do not find it.
            self._client = _client(match[1], location=dataset.location)
            self._make(self._id, partitioned=True)
            self._check()

    def read(self, columns: Sequence[str] = (), *, where: Where | None = None) -> pa.Table:
        """Rows with the columns (none named: all) where each column of where equals its value."""
        return concatenated(self._spec, columns, self.read_batches(columns, where=where))

    def read_batches(self, columns: Sequence[str] = (), *, where: Where | None = None) -> Iterator[pa.Table]:
        """The rows of `read`, page by page."""
        names, where = list(columns) or self._spec.schema.names, where or {}
        schema = pa.schema([self._spec.schema.field(name) for name in names])
        tests = "".join(
            f" AND `{self._spec.schema.field(name).name}` = @p{i}" for i, name in enumerate(where)
        )
        sql = f"SELECT {table_sql.columns(names, _QUOTE)} FROM `{self._id}` WHERE TRUE{tests}"
        with in_words(self.uri):
            for batch in self._select(sql, list(where.values())).to_arrow_iterable():
                yield pa.Table.from_batches([batch]).cast(schema)

    def commit(self, parts: Sequence[str]) -> Commit:
        """Take the rows of the parts into the table, exactly once; see tables.Table."""
        if not parts:
            return Commit()
        # The most parts of one load job: more are loaded by several jobs, each into its own staging table.
        parts = sorted(parts, key=lambda part: part.rpartition("/")[2])
        chunks = [parts[at : at + _MAX_URIS] for at in range(0, len(parts), _MAX_URIS)]
        stagings: list[str] = []
        with in_words(self.uri):
            for chunk in chunks:
                chunk_id = table_parts.write_id(self.uri, chunk)
                stagings.append(f"{self._id}__staging_{chunk_id[:24]}")
                self._load(chunk, stagings[-1], chunk_id)
            self._check_dims(stagings)
            counts = self._count(stagings)
            self._merge(stagings, table_parts.write_id(self.uri, parts))
            for staging in stagings:
                self._client.delete_table(staging, not_found_ok=True, **calls())
        return counts

    def _make(self, table_id: str, *, partitioned: bool) -> None:
        table = bigquery.Table(table_id, schema=_schema(self._spec.schema))
        if partitioned:
            if self._spec.partition_by:
                table.time_partitioning = bigquery.TimePartitioning(field=self._spec.partition_by)
            if self._spec.cluster_by:
                table.clustering_fields = list(self._spec.cluster_by)
        else:
            # A run that dies here and is never run again leaves only a table that expires.
            table.expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=_STAGING_DAYS)
        self._client.create_table(table, exists_ok=True, **calls())

    def _check(self) -> None:
        existing = {
            field.name: _spelled(field) for field in self._client.get_table(self._id, **calls()).schema
        }
        check_columns(
            self.uri, existing=existing, wanted={f.name: _spelled(f) for f in _schema(self._spec.schema)}
        )
        # A dry run needs the permissions of the real one: better refused now than after hours of work.
        sql = table_sql.merge(self._spec, target=f"`{self._id}`", staging=f"`{self._id}`", quote=_QUOTE)
        config = bigquery.QueryJobConfig(dry_run=True)
        self._client.query_and_wait(sql, job_config=config, retry=retries(), api_timeout=REQUEST_S)

    def _load(self, parts: Sequence[str], staging: str, write_id: str) -> None:
        self._make(staging, partitioned=False)
        expected = table_parts.num_rows(parts)
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=_schema(self._spec.schema),
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            write_disposition=bigquery.WriteDisposition.WRITE_EMPTY,
        )
        # The whole object is set, since the property returns a copy. Without it a list is loaded as a record of
        # records.
        options = bigquery.ParquetOptions()
        options.enable_list_inference = True
        config.parquet_options = options

        def loaded() -> bool:
            return self._client.get_table(staging, **calls()).num_rows == expected

        def start(job_id: str) -> Job:
            if all(storage.is_remote(part) for part in parts):
                return self._client.load_table_from_uri(
                    list(parts), staging, job_id=job_id, job_config=config, **calls()
                )
            with tempfile.TemporaryFile() as file:
                self._join(parts, file)
                return self._client.load_table_from_file(
                    file,
                    staging,
                    rewind=True,
                    size=file.tell(),
                    job_id=job_id,
                    job_config=config,
                    timeout=REQUEST_S,
                )

        if expected:
            run_until(self._client, loaded, start, name=f"w2v2_load_{write_id}")

    def _join(self, parts: Sequence[str], file: io.BufferedRandom) -> None:
        """Write the parts into one Parquet file, since one upload is one load job."""
        with pq.ParquetWriter(file, self._spec.schema, compression="zstd") as writer:
            for part in parts:
                writer.write_table(table_parts.read_part(part, self._spec.schema.names))

    def _check_dims(self, stagings: Sequence[str]) -> None:
        if self._spec.dim_per:
            rows = list(self._select(table_sql.dims(self._spec, **self._names(stagings))))
            if rows:
                raise one_dim_error(self.uri, self._spec, rows[0].values())

    def _count(self, stagings: Sequence[str]) -> Commit:
        row = next(iter(self._select(table_sql.count(self._spec, **self._names(stagings)))))
        return Commit.of_row(row.values())

    def _merge(self, stagings: Sequence[str], write_id: str) -> None:
        sql = table_sql.merge(self._spec, **self._names(stagings))

        def merged() -> bool:
            return self._count(stagings).pending == 0

        def start(job_id: str) -> Job:
            # An id belongs to one job: run_until gives each try a new id.
            return self._client.query(sql, job_id=job_id, job_retry=None, **calls())

        run_until(self._client, merged, start, name=f"w2v2_merge_{write_id}")

    def _select(self, sql: str, values: Sequence[str | int | float] = ()) -> bigquery.table.RowIterator:
        kinds = {str: "STRING", int: "INT64", float: "FLOAT64", bool: "BOOL"}
        parameters = [bigquery.ScalarQueryParameter(f"p{i}", kinds[type(v)], v) for i, v in enumerate(values)]
        # Without the cache: it may answer from before a change.
        config = bigquery.QueryJobConfig(query_parameters=parameters, use_query_cache=False)
        return self._client.query_and_wait(sql, job_config=config, retry=retries(), api_timeout=REQUEST_S)

    def _names(self, stagings: Sequence[str]) -> dict[str, str]:
        """The names in SQL of the table and of its staging tables, which are read as one."""
        staging = f"`{stagings[0]}`"
        if len(stagings) > 1:
            selects = " UNION ALL ".join(f"SELECT * FROM `{name}`" for name in stagings)
            staging = f"({selects})"
        return {"target": f"`{self._id}`", "staging": staging, "quote": _QUOTE}


def exists(uri: str) -> bool:
    """Whether there is a table at bq://project.dataset.table. Raises UserError for other names, and where BigQuery does not say."""
    match = _parsed(uri)
    with in_words(uri):
        client = _client(match[1])
        client.get_dataset(f"{match[1]}.{match[2]}", **calls())
        try:
            client.get_table(".".join(match.groups()), **calls())
        except exceptions.NotFound:
            return False
    return True


def _check_names(uri: str, spec: TableSpec) -> None:
    """Raises UserError for a column name with characters that a load job of BigQuery may refuse."""
    if other := [name for name in spec.schema.names if not NAME.fullmatch(name)]:
        raise UserError(
            f"table {uri}: column {other[0]!r} cannot be a column of BigQuery: use letters, digits and _ (at most 128), or "
            "write a folder of Parquet files, DuckDB or, of predictions, a .csv"
        )


def _parsed(uri: str) -> re.Match[str]:
    match = _URI.fullmatch(uri)
    if match is None:
        raise UserError(
            f"table {uri!r} is not a BigQuery table: write bq://project.dataset.table, "
            "with letters, digits and _ (and - in project and table)"
        )
    return match


def _client(project: str, *, location: str | None = None) -> bigquery.Client:
    if os.environ.get("BIGQUERY_EMULATOR_HOST"):
        return bigquery.Client(project=project, location=location, credentials=AnonymousCredentials())
    return bigquery.Client(project=project, location=location)


def _schema(schema: pa.Schema) -> list[bigquery.SchemaField]:
    kinds = {
        pa.string(): "STRING",
        pa.bool_(): "BOOLEAN",
        pa.int64(): "INTEGER",
        pa.float32(): "FLOAT",
        pa.float64(): "FLOAT",
        pa.date32(): "DATE",
        TIMESTAMP: "TIMESTAMP",
    }
    fields = []
    for field in schema:
        is_list = pa.types.is_list(field.type)
        kind = kinds[field.type.value_type if is_list else field.type]
        fields.append(bigquery.SchemaField(field.name, kind, mode="REPEATED" if is_list else "NULLABLE"))
    return fields


def _spelled(field: bigquery.SchemaField) -> str:
    """A column's type in one spelling, the same for REQUIRED and NULLABLE."""
    legacy = {"FLOAT64": "FLOAT", "INT64": "INTEGER", "BOOL": "BOOLEAN"}
    kind = legacy.get(field.field_type, field.field_type)
    return f"ARRAY<{kind}>" if field.mode == "REPEATED" else kind
