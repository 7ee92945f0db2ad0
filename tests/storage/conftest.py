"""A bucket on loopback, and gcsfs without its pauses."""

from collections.abc import Iterator

import pytest

from tests.cloud.gcs import FakeGcs, gcs_environment, without_pauses


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs("corpus") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)
