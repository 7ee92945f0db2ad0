"""Tables in BigQuery, against a loopback server."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.tables.places import Place, counts, fold, make_place, make_rows, make_spec, rows_of, write


@pytest.mark.parametrize(
    "uri",
    [
        "bq://p.d.t` WHERE 1=1; DROP TABLE x; --",
        "bq://my-project.speech",
        "bq://my-project.speech.a.b",
        "bq://My_Project.speech.a",
        "bq://my-project.sp-eech.a",
        "bq://my-project.speech.a/../b",
        "bq://my-project.speech.table\n",
    ],
)
def test_malformed_bigquery_names_are_refused(uri: str) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    with pytest.raises(UserError, match=r"is not a BigQuery table: write bq://project\.dataset\.table"):
        open_table(uri, make_spec())


@pytest.fixture
def bq(tmp_path: Path, servers: Any) -> Place:
    return make_place("bigquery", tmp_path, servers)


def test_bigquery_table_is_partitioned_clustered_and_left_alone(bq: Place) -> None:
    from w2v2.tables.table import open_table

    table = open_table(bq.uri, make_spec())
    table.commit(write(bq, make_rows(range(3))))
    resource = bq.bigquery.resource("my-project", "speech", "embeddings")
    assert resource["timePartitioning"] == {"field": "created_at", "type": "DAY"}
    assert resource["clustering"] == {"fields": ["model", "pooling", "clip_id"]}
    kinds = {each["name"]: (each["type"], each["mode"]) for each in resource["schema"]["fields"]}
    assert kinds["embedding"] == ("FLOAT", "REPEATED")
    assert kinds["start_s"] == ("FLOAT", "NULLABLE")
    assert bq.bigquery.tables() == ["embeddings"]


def test_bigquery_runs_one_load_and_one_merge_for_many_parts(bq: Place) -> None:
    from w2v2.tables.table import open_table

    table = open_table(bq.uri, make_spec())
    parts = write(bq, *(make_rows(range(n, n + 1)) for n in range(9)))
    table.commit(parts)
    assert [re.sub("[0-9a-f]{40}", "*", name) for name in bq.bigquery.written_jobs()] == [
        "w2v2_load_*_0",
        "w2v2_merge_*_0",
    ]
    table.commit(parts)
    # The first load's staging table is gone, so its id is stepped over; nothing is left to merge.
    assert [re.sub("[0-9a-f]{40}", "*", name) for name in bq.bigquery.written_jobs()][2:] == ["w2v2_load_*_1"]


@pytest.mark.parametrize("reason", ["backendError", "rateLimitExceeded", "jobInternalError"])
def test_bigquery_failed_jobs_are_tried_again_under_the_next_id(bq: Place, reason: str) -> None:
    from w2v2.tables.table import open_table

    table = open_table(bq.uri, make_spec())
    for _ in range(3):
        bq.bigquery.fail_next_job(reason=reason)
    table.commit(write(bq, make_rows(range(4))))
    assert rows_of(table) == fold(make_rows(range(4)))
    assert sum("_load_" in name for name in bq.bigquery.written_jobs()) == 4


def test_bigquery_a_failure_of_an_earlier_run_does_not_block_the_next(bq: Place) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    table, parts = open_table(bq.uri, make_spec()), write(bq, make_rows(range(4)))
    for _ in range(2):
        for _ in range(4):
            bq.bigquery.fail_next_job(reason="backendError")
        with pytest.raises(UserError, match="injected"):
            table.commit(parts)
    bq.bigquery.fail_next_job(reason="quotaExceeded", message="Quota exceeded: too many loads")
    with pytest.raises(
        UserError, match=r"BigQuery's quota stops bq://.*: .*too many loads.*parts are kept, run the same"
    ):
        table.commit(parts)
    assert counts(open_table(bq.uri, make_spec()).commit(parts)) == (4, 0, 0, 0)


def test_bigquery_a_job_that_fails_each_time_is_reported(bq: Place) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    table = open_table(bq.uri, make_spec())
    for _ in range(9):
        bq.bigquery.fail_next_job(reason="backendError", message="bad weather")
    with pytest.raises(
        UserError, match=r"BigQuery could not write bq://.*bad weather.*run the same command again"
    ):
        table.commit(write(bq, make_rows(range(4))))
    assert len(bq.bigquery.written_jobs()) == 4


@pytest.mark.parametrize("lost", ["/jobs", "/queries", "/tables"])
def test_bigquery_answers_lost_on_every_call_change_nothing(bq: Place, lost: str) -> None:
    from w2v2.tables.table import open_table

    bq.bigquery.faults.add(kind="lost_answer", path_contains=lost, count=2)
    bq.bigquery.faults.add(
        kind="status", status=503, reason="serviceUnavailable", path_contains=lost, count=3
    )
    table = open_table(bq.uri, make_spec())
    bq.bigquery.faults.add(kind="lost_answer", path_contains=lost, count=2)
    assert counts(table.commit(write(bq, make_rows(range(4))))) == (4, 0, 0, 0)
    assert rows_of(table) == fold(make_rows(range(4)))
    assert bq.bigquery.faults.unused() == 0
    assert len(bq.bigquery.written_jobs()) == 2


@pytest.mark.parametrize(
    "permission",
    [
        "bigquery.datasets.get",
        "bigquery.tables.create",
        "bigquery.tables.updateData",
        "bigquery.tables.getData",
        "bigquery.jobs.create",
    ],
)
def test_bigquery_a_missing_permission_is_reported_before_any_work(bq: Place, permission: str) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    bq.bigquery.deny(permission)
    roles = r"roles/bigquery\.dataEditor on dataset speech and roles/bigquery\.jobUser on project my-project"
    wanted = rf"no permission for bq://.*{permission}.*grant {roles}"
    with pytest.raises(UserError, match=wanted):
        open_table(bq.uri, make_spec())


def test_bigquery_a_missing_dataset_is_reported(bq: Place) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    with pytest.raises(
        UserError, match=r"was not found: .*make the dataset first \(bq mk my-project:music\)"
    ):
        open_table("bq://my-project.music.t", make_spec())


def test_bigquery_a_bucket_in_another_location_is_reported(bq: Place) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    bq.bigquery.create_dataset("my-project", "europe", location="EU")
    bq.bigquery.bucket_locations["bucket"] = "US"
    table = open_table("bq://my-project.europe.t", make_spec())
    with pytest.raises(
        UserError,
        match=r"and its parts are in two locations: .*source: US, destination: EU; use a bucket",
    ):
        table.commit(write(bq, make_rows(range(2))))
    assert table.read().num_rows == 0


def test_bigquery_a_quota_is_reported_at_once(bq: Place) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    bq.bigquery.faults.add(kind="status", status=403, reason="quotaExceeded", path_contains="/jobs", count=1)
    table = open_table(bq.uri, make_spec())
    with pytest.raises(UserError, match=r"BigQuery's quota stops bq://my-project\.speech\.embeddings"):
        table.commit(write(bq, make_rows(range(2))))


def test_bigquery_without_credentials_says_how_to_log_in(
    bq: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(
        UserError, match=r"no Google credentials for bq://.*run gcloud auth application-default login"
    ):
        open_table(bq.uri, make_spec())


def test_bigquery_more_parts_than_a_load_job_takes(bq: Place, monkeypatch: Any) -> None:
    from w2v2.tables import bigquery_table
    from w2v2.tables.table import open_table

    monkeypatch.setattr(bigquery_table, "_MAX_URIS", 3)
    table = open_table(bq.uri, make_spec())
    parts = write(bq, *(make_rows(range(n, n + 2)) for n in range(0, 14, 2)))
    taken = table.commit(parts)
    assert taken.inserted == 14 and taken.pending == 14
    assert rows_of(table) == fold(make_rows(range(14)))
    jobs = [re.sub("[0-9a-f]{40}", "*", name) for name in bq.bigquery.written_jobs()]
    assert jobs == ["w2v2_load_*_0"] * 3 + ["w2v2_merge_*_0"]
    assert bq.bigquery.tables() == ["embeddings"]
    again = table.commit(parts[::-1])
    assert (again.unchanged, again.pending) == (14, 0)


def test_bigquery_large_local_parts_are_uploaded_resumably(
    tmp_path: Path, servers: Any, monkeypatch: Any
) -> None:
    from google.cloud.bigquery import client

    from w2v2.tables.table import open_table

    monkeypatch.setattr(client, "_MAX_MULTIPART_SIZE", 1000)
    place = make_place("bigquery-local", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    place.bigquery.faults.add(kind="lost_answer", method="PUT", count=1)
    table.commit(write(place, make_rows(range(40)), make_rows(range(40, 50))))
    assert rows_of(table) == fold(make_rows(range(50)))
    assert place.bigquery.faults.unused() == 0


def test_a_dead_network_is_reported(bq: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from w2v2.errors import UserError
    from w2v2.tables import bigquery_jobs
    from w2v2.tables.table import open_table

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr(bigquery_jobs, "_RETRY_S", 0.2)
        with pytest.raises(UserError, match=r"BigQuery could not write bq://.*run the same command again"):
            open_table(bq.uri, make_spec())
