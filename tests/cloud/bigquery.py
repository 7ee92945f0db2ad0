"""A fake of the part of BigQuery's REST API that w2v2's tables use, with DuckDB as its engine.

In memory. Whatever is not here is answered 501 with the request named. What BigQuery refuses and DuckDB
does not (FLOAT64 in PARTITION BY or clustering, lists without enableListInference, a job id used before,
a bucket in another location) is refused here too.
"""

import email.parser
import email.policy
import io
import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from tests.cloud.bigquery_answers import Answer, answer_of, parameter_value, parsed_query
from tests.cloud.bigquery_tables import FakeDatasets, quoted
from tests.cloud.gcs import FakeGcs
from tests.cloud.http import HttpError, Request, Response, json_response


def bigquery_environment(server: "FakeBigQuery") -> dict[str, str]:
    return {"BIGQUERY_EMULATOR_HOST": server.url}


class _JobError(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.error = {"reason": reason, "message": message}


class FakeBigQuery(FakeDatasets):
    """Load jobs from a FakeGcs or an upload, and queries through sqlglot and DuckDB, whose answers have pages of page_rows."""

    def __init__(self, gcs: FakeGcs, *, page_rows: int = 50) -> None:
        super().__init__()
        self._page_rows = page_rows
        self.bucket_locations: dict[str, str] = {}
        self.polls_until_done = 1
        self.jobs: dict[str, dict[str, Any]] = {}
        self._fail_jobs: list[dict[str, str]] = []
        self._gcs = gcs
        self._answers: dict[str, Answer] = {}
        self._requests: dict[str, str] = {}
        self._polls: dict[str, int] = {}
        self._uploads: dict[str, tuple[dict[str, Any], bytearray]] = {}
        self._ids = itertools.count(1)
        project = "/bigquery/v2/projects/{project}"
        self.route("POST", project + "/jobs", self._insert_job)
        self.route("GET", project + "/jobs/{job}", self._get_job)
        self.route("POST", project + "/queries", self._query)
        self.route("GET", project + "/queries/{job}", self._results)
        self.route("POST", "/upload" + project, self._upload)
        self.route("POST", "/upload" + project + "/jobs", self._upload)
        self.route("PUT", "/upload" + project + "/jobs", self._append)

    # -- what a test sets up and looks at

    def fail_next_job(self, *, reason: str, message: str = "injected") -> None:
        """Let the next job that is inserted end in this error, nothing of it applied."""
        self._fail_jobs.append({"reason": reason, "message": message})

    def written_jobs(self) -> list[str]:
        """Ids of the jobs that a client named, in order."""
        with self.lock:
            return [name for name in self.jobs if not name.startswith("job_fake_")]

    # -- jobs

    def _insert_job(self, request: Request, project: str) -> Response:
        return json_response(self._run_job(project, request.json(), b""))

    def _run_job(self, project: str, body: dict[str, Any], data: bytes) -> dict[str, Any]:
        self._permit("bigquery.jobs.create", f"Project {project}")
        reference, configuration = body["jobReference"], body["configuration"]
        name = reference["jobId"]
        if name in self.jobs:
            raise HttpError(
                409, f"Already Exists: Job {project}:{reference.get('location', 'US')}.{name}", "duplicate"
            )
        status, statistics = self._attempt(configuration, data, name, reference.get("location", "US"))
        location = reference.get("location", "US")
        return self._seen(self._record(project, name, location, configuration, status, statistics))

    def _record(
        self,
        project: str,
        name: str,
        location: str,
        configuration: Mapping[str, Any],
        status: Any,
        statistics: Any,
    ) -> dict[str, Any]:
        job = {
            "kind": "bigquery#job",
            "id": f"{project}:{location}.{name}",
            "jobReference": {"projectId": project, "jobId": name, "location": location},
            "configuration": {**configuration, "jobType": "LOAD" if "load" in configuration else "QUERY"},
            "status": status,
            "statistics": statistics,
        }
        self.jobs[name], self._polls[name] = job, self.polls_until_done
        return job

    def _attempt(
        self, configuration: dict[str, Any], data: bytes, name: str, location: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            if self._fail_jobs:
                error = self._fail_jobs.pop(0)
                raise _JobError(error["reason"], error["message"])
            if "load" in configuration:
                num_rows = self._load(configuration["load"], data, location)
                return {"state": "DONE"}, {"load": {"outputRows": str(num_rows)}}
            answer = self._answer(
                configuration["query"], location, dry_run=configuration.get("dryRun", False)
            )
            self._answers[name] = answer
            return {"state": "DONE"}, {"query": {"numDmlAffectedRows": str(answer.num_changed or 0)}}
        except _JobError as error:
            return {"state": "DONE", "errorResult": error.error, "errors": [error.error]}, {}

    def _seen(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job as a poll shows it: RUNNING for the first polls."""
        name = job["jobReference"]["jobId"]
        self._polls[name] -= 1
        return job if self._polls[name] < 0 else {**job, "status": {"state": "RUNNING"}, "statistics": {}}

    def _get_job(self, request: Request, project: str, job: str) -> Response:
        if job not in self.jobs:
            raise HttpError(404, f"Not found: Job {project}:{job}", "notFound")
        return json_response(self._seen(self.jobs[job]))

    # -- loads

    def _load(self, load: dict[str, Any], data: bytes, location: str) -> int:
        target = load["destinationTable"]
        key = (target["projectId"], target["datasetId"], target["tableId"])
        if self._datasets.get(key[:2]) != location:
            raise _JobError(
                "notFound", f"Not found: Dataset {key[0]}:{key[1]} was not found in location {location}"
            )
        if load["sourceFormat"] != "PARQUET" or load.get("createDisposition") != "CREATE_NEVER":
            raise HttpError(501, "not in this fake: loads but of Parquet into a table that is there")
        if key not in self._tables:
            raise _JobError("notFound", f"Not found: Table {key[0]}:{key[1]}.{key[2]}")
        sources = [data] if data else [self._source(uri, location) for uri in load["sourceUris"]]
        rows = pa.concat_tables([self._parsed(source, load, key) for source in sources])
        table = quoted(key)
        match load.get("writeDisposition", "WRITE_APPEND"):
            case "WRITE_EMPTY" if self._engine.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0]:
                raise _JobError("duplicate", f"Already Exists: Table {key[0]}:{key[1]}.{key[2]}")
            case "WRITE_TRUNCATE":
                self._engine.execute(f"DELETE FROM {table}").fetchall()
        self._engine.register("loaded", rows)
        self._engine.execute(f"INSERT INTO {table} BY NAME SELECT * FROM loaded").fetchall()
        self._engine.unregister("loaded")
        return rows.num_rows

    def _source(self, uri: str, location: str) -> bytes:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        source = self.bucket_locations.get(bucket, location)
        if source != location:
            places = f"source: {source}, destination: {location}"
            raise _JobError("invalid", f"Cannot read and write in different locations: {places}")
        if "*" in name or name not in self._gcs.names(bucket):
            raise _JobError("notFound", f"Not found: URI {uri}")
        return self._gcs.get(bucket, name)

    def _parsed(self, data: bytes, load: dict[str, Any], key: tuple[str, str, str]) -> pa.Table:
        rows = pq.read_table(io.BytesIO(data))
        modes = {each["name"]: each.get("mode", "NULLABLE") for each in self._tables[key].fields}
        if unknown := set(rows.column_names) - set(modes):
            raise _JobError(
                "invalid", f"Provided Schema does not match Table: Cannot add fields {sorted(unknown)}"
            )
        for column in rows.schema:
            if not pa.types.is_list(column.type):
                continue
            if not load.get("parquetOptions", {}).get("enableListInference"):
                raise _JobError("invalid", f"Field {column.name} has changed type from FLOAT to RECORD")
            if any(None in each for each in rows[column.name].to_pylist()):
                raise _JobError(
                    "invalid", f"Only optional fields can be set to NULL. Field: {column.name}.list.element"
                )
        return rows

    # -- uploads

    def _upload(self, request: Request, project: str) -> Response:
        match request.query["uploadType"]:
            case "multipart":
                head = f"Content-Type: {request.headers['content-type']}\n\n".encode()
                message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
                metadata, data = (part.get_payload(decode=True) for part in message.iter_parts())
                return json_response(self._run_job(project, json.loads(metadata), data))
            case "resumable":
                self._permit("bigquery.jobs.create", f"Project {project}")
                upload = f"upload{next(self._ids)}"
                self._uploads[upload] = (request.json(), bytearray())
                location = f"{self.url}{request.path}?uploadType=resumable&upload_id={upload}"
                return Response(200, b"", {"Location": location})
            case kind:
                raise HttpError(501, f"not in this fake: uploadType={kind}")

    def _append(self, request: Request, project: str) -> Response:
        body, data = self._uploads[request.query["upload_id"]]
        name = body["jobReference"]["jobId"]
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers["content-range"])
        if span is None:
            raise HttpError(400, "content-range")
        if span[1] is not None:
            data[int(span[1]) :] = request.body
        if span[3] == "*" or len(data) < int(span[3]):
            return Response(308, b"", {"Range": f"bytes=0-{len(data) - 1}"} if data else {})
        # A finished upload asked for again tells its job.
        job = self.jobs.get(name) or self._run_job(project, body, bytes(data))
        return json_response(job)

    # -- queries

    def _query(self, request: Request, project: str) -> Response:
        self._permit("bigquery.jobs.create", f"Project {project}")
        body = request.json()
        name = self._requests.setdefault(body["requestId"], f"job_fake_{next(self._ids)}")
        if name not in self._answers:
            try:
                self._answers[name] = self._answer(
                    body, body.get("location", "US"), dry_run=body.get("dryRun", False)
                )
            except _JobError as error:
                raise HttpError(400, error.error["message"], error.error["reason"]) from error
            # The client asks for the job of an answer that has more pages.
            query = {"query": {"query": body["query"], "useLegacySql": False}}
            self._record(project, name, body.get("location", "US"), query, {"state": "DONE"}, {"query": {}})
        return json_response(self._page(project, name, 0, int(body.get("maxResults", self._page_rows))))

    def _results(self, request: Request, project: str, job: str) -> Response:
        if job not in self._answers:
            raise HttpError(404, f"Not found: Job {project}:{job}", "notFound")
        start, size = (
            int(request.query.get("pageToken", 0)),
            int(request.query.get("maxResults", self._page_rows)),
        )
        return json_response(self._page(project, job, start, size))

    def _page(self, project: str, job: str, start: int, size: int) -> dict[str, Any]:
        answer = self._answers[job]
        page: dict[str, Any] = {
            "kind": "bigquery#queryResponse",
            "jobReference": {"projectId": project, "jobId": job, "location": "US"},
            "jobComplete": True,
            "schema": {"fields": answer.fields},
            "totalRows": str(len(answer.rows)),
            "rows": answer.rows[start : start + size],
        }
        if answer.num_changed is not None:
            page["numDmlAffectedRows"] = str(answer.num_changed)
        if start + size < len(answer.rows):
            page["pageToken"] = str(start + size)
        return page

    def _answer(self, query: dict[str, Any], location: str, *, dry_run: bool) -> Answer:
        if query.get("useLegacySql", True):
            raise HttpError(501, "not in this fake: legacy SQL")
        tree, sql = parsed_query(query["query"])
        self._check_tree(tree, location)
        values = {each["name"]: parameter_value(each) for each in query.get("queryParameters", [])}
        try:
            if dry_run:
                self._engine.execute(f"EXPLAIN {sql}", values or None).fetchall()
                return Answer()
            if isinstance(tree, exp.Merge):
                return Answer(num_changed=int(self._engine.execute(sql).fetchall()[0][0]))
            return answer_of(self._engine.sql(sql, params=values or None).to_arrow_table())
        except duckdb.Error as error:
            raise _JobError("invalidQuery", str(error)) from error

    def _check_tree(self, tree: exp.Expression, location: str) -> None:
        """Refuse what BigQuery refuses and DuckDB takes."""
        if not isinstance(tree, exp.Select | exp.Merge):
            raise HttpError(501, f"not in this fake: {tree.key}")
        floats = set()
        for table in tree.find_all(exp.Table):
            if not table.catalog:
                continue
            key = (table.catalog, table.db, table.name)
            if self._datasets.get(key[:2]) != location:
                raise _JobError(
                    "notFound", f"Not found: Dataset {key[0]}:{key[1]} was not found in location {location}"
                )
            self._permit("bigquery.tables.getData", f"Table {key[0]}:{key[1]}.{key[2]}")
            if key not in self._tables:
                raise _JobError("notFound", f"Not found: Table {key[0]}:{key[1]}.{key[2]} was not found")
            floats |= {each["name"] for each in self._tables[key].fields if each["type"] == "FLOAT"}
        if isinstance(tree, exp.Merge):
            self._permit("bigquery.tables.updateData", f"Table {tree.this.sql(dialect='bigquery')}")
        for window in tree.find_all(exp.Window):
            for by in window.args.get("partition_by") or []:
                if {column.name for column in by.find_all(exp.Column)} & floats:
                    raise _JobError(
                        "invalidQuery", "Partitioning by expressions of type FLOAT64 is not allowed"
                    )
