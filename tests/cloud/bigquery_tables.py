"""Datasets and tables of the fake BigQuery, kept by DuckDB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from tests.cloud.gcs_permissions import PRINCIPAL
from tests.cloud.http import HttpError, LoopbackServer, Request, Response, json_response

_LEGACY = {"FLOAT64": "FLOAT", "INT64": "INTEGER", "BOOL": "BOOLEAN"}
_DUCK = {
    "STRING": "VARCHAR",
    "FLOAT": "DOUBLE",
    "INTEGER": "BIGINT",
    "BOOLEAN": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
    "DATE": "DATE",
}


@dataclass
class Table:
    resource: dict[str, Any]

    @property
    def fields(self) -> list[dict[str, Any]]:
        return self.resource["schema"]["fields"]


class FakeDatasets(LoopbackServer):
    """Datasets in their locations and tables with their schemas; what a caller lacks a permission for is denied."""

    def __init__(self) -> None:
        super().__init__()
        self._datasets: dict[tuple[str, str], str] = {}
        self._tables: dict[tuple[str, str, str], Table] = {}
        self._denied: set[str] = set()
        self._engine = duckdb.connect()
        self._engine.execute("SET TimeZone = 'UTC'").fetchall()
        project = "/bigquery/v2/projects/{project}"
        table = project + "/datasets/{dataset}/tables/{table}"
        self.route("GET", project + "/datasets/{dataset}", self._get_dataset)
        self.route("POST", project + "/datasets/{dataset}/tables", self._create_table)
        self.route("GET", table, self._get_table)
        self.route("DELETE", table, self._delete_table)

    def create_dataset(self, project: str, dataset: str, *, location: str = "US") -> None:
        with self.lock:
            if not any(owner == project for owner, _ in self._datasets):
                self._engine.execute(f"ATTACH ':memory:' AS \"{project}\"").fetchall()
            self._engine.execute(f'CREATE SCHEMA "{project}"."{dataset}"').fetchall()
            self._datasets[project, dataset] = location

    def create_table(
        self, project: str, dataset: str, table: str, fields: Sequence[Mapping[str, str]]
    ) -> None:
        reference = {"projectId": project, "datasetId": dataset, "tableId": table}
        with self.lock:
            self._make({"tableReference": reference, "schema": {"fields": [dict(each) for each in fields]}})

    def deny(self, permission: str) -> None:
        """Answer 403 accessDenied in Google's words to what needs the permission."""
        self._denied.add(permission)

    def tables(self) -> list[str]:
        with self.lock:
            return sorted(table for _, _, table in self._tables)

    def resource(self, project: str, dataset: str, table: str) -> dict[str, Any]:
        return self._tables[project, dataset, table].resource

    def sql(self, statement: str) -> pa.Table:
        """Rows of a statement in DuckDB's SQL, past the API."""
        with self.lock:
            return self._engine.sql(statement).to_arrow_table()

    def _permit(self, permission: str, what: str) -> None:
        if permission in self._denied:
            lacks = f"User {PRINCIPAL} does not have {permission} permission (or it may not exist)."
            message = f"Access Denied: {what}: {lacks}"
            raise HttpError(403, message, "accessDenied")

    def _get_dataset(self, request: Request, project: str, dataset: str) -> Response:
        self._permit("bigquery.datasets.get", f"Dataset {project}:{dataset}")
        location = self._location(project, dataset)
        reference = {"projectId": project, "datasetId": dataset}
        return json_response(
            {"kind": "bigquery#dataset", "datasetReference": reference, "location": location}
        )

    def _location(self, project: str, dataset: str) -> str:
        if (project, dataset) not in self._datasets:
            raise HttpError(404, f"Not found: Dataset {project}:{dataset}", "notFound")
        return self._datasets[project, dataset]

    def _create_table(self, request: Request, project: str, dataset: str) -> Response:
        self._location(project, dataset)
        self._permit("bigquery.tables.create", f"Dataset {project}:{dataset}")
        resource = request.json()
        key = (project, dataset, resource["tableReference"]["tableId"])
        if key in self._tables:
            raise HttpError(409, f"Already Exists: Table {project}:{dataset}.{key[2]}", "duplicate")
        return json_response(self._make(resource).resource)

    def _make(self, resource: dict[str, Any]) -> Table:
        reference = resource["tableReference"]
        key = (reference["projectId"], reference["datasetId"], reference["tableId"])
        fields = [
            {**each, "type": _LEGACY.get(each["type"], each["type"])} for each in resource["schema"]["fields"]
        ]
        types = {each["name"]: each["type"] for each in fields}
        for name in (resource.get("clustering") or {}).get("fields", []):
            if types[name] == "FLOAT":
                raise HttpError(
                    400, f"Field {name} has type FLOAT64, which is not supported for clustering.", "invalid"
                )
        if (by := (resource.get("timePartitioning") or {}).get("field")) and types[by] not in (
            "TIMESTAMP",
            "DATE",
        ):
            raise HttpError(
                400, f"The field {by} specified for partitioning has type {types[by]}.", "invalid"
            )
        columns = ", ".join(f'"{each["name"]}" {_duck_type(each)}' for each in fields)
        self._engine.execute(f"CREATE TABLE {quoted(key)} ({columns})").fetchall()
        self._tables[key] = Table({**resource, "kind": "bigquery#table", "schema": {"fields": fields}})
        return self._tables[key]

    def _get_table(self, request: Request, project: str, dataset: str, table: str) -> Response:
        self._location(project, dataset)
        self._permit("bigquery.tables.get", f"Table {project}:{dataset}.{table}")
        stored = self._table((project, dataset, table))
        num_rows = self._engine.sql(f"SELECT count(*) FROM {quoted((project, dataset, table))}").fetchall()[
            0
        ][0]
        return json_response(
            {**stored.resource, "numRows": str(num_rows), "location": self._location(project, dataset)}
        )

    def _table(self, key: tuple[str, str, str]) -> Table:
        if key not in self._tables:
            raise HttpError(404, f"Not found: Table {key[0]}:{key[1]}.{key[2]}", "notFound")
        return self._tables[key]

    def _delete_table(self, request: Request, project: str, dataset: str, table: str) -> Response:
        self._table((project, dataset, table))
        self._permit("bigquery.tables.delete", f"Table {project}:{dataset}.{table}")
        self._engine.execute(f"DROP TABLE {quoted((project, dataset, table))}").fetchall()
        del self._tables[project, dataset, table]
        return Response(204)


def quoted(key: tuple[str, str, str]) -> str:
    return ".".join(f'"{name}"' for name in key)


def _duck_type(column: Mapping[str, str]) -> str:
    return _DUCK[column["type"]] + ("[]" if column.get("mode") == "REPEATED" else "")
