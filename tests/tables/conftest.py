"""Tables of every kind, on loopback where they are remote."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.bigquery import FakeBigQuery, bigquery_environment
from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.tables.places import KINDS, Place, make_place


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeGcs, FakeBigQuery]]:
    with FakeGcs("bucket") as gcs, FakeBigQuery(gcs) as bigquery:
        bigquery.create_dataset("my-project", "speech")
        for name, value in {**gcs_environment(gcs), **bigquery_environment(bigquery)}.items():
            monkeypatch.setenv(name, value)
        # The clients' own pauses, without the waiting: sockets and threads do not use this function.
        pause, later = time.sleep, asyncio.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: pause(min(seconds, 0.001)))
        monkeypatch.setattr(asyncio, "sleep", lambda seconds, result=None: later(min(seconds, 0.001), result))
        yield gcs, bigquery


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, servers: tuple[FakeGcs, FakeBigQuery]) -> Place:
    return make_place(request.param, tmp_path, servers)
