"""A loopback Google Cloud Storage for tests of storage."""

from collections.abc import Iterator

import pytest

from tests.cloud.gcs import FakeGcs, gcs_environment


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """The loopback server, with the bucket 'corpus'."""
    with FakeGcs("corpus") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        yield server
