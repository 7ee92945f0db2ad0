"""What progress lines say of rate and time left, on a clock of the test's own."""

import logging

import pytest

from w2v2 import progress
from w2v2.progress import Progress, clock


@pytest.fixture
def at(monkeypatch):
    """Sets the clock."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def set_clock(seconds):
        now[0] = 100.0 + seconds

    return set_clock


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "w2v2")
    return lambda: [record.getMessage() for record in caplog.records]


def test_rate_and_time_left_do_not_count_the_start_of_workers(at, lines):
    tell = Progress("features", 96, unit="clips")
    at(30)
    tell(8)  # half a minute of imports went before these
    at(34)
    tell(48)
    at(38.8)
    tell(96)
    assert lines() == [
        "features: 8 of 96 clips",
        "features: 48 of 96 clips, 10.0/s, 0:05 left",
        "features: 96 of 96 clips, in 0:39",
    ]


def test_one_line_every_few_seconds(at, lines):
    tell = Progress("x", 100, unit="rows", interval_s=2.0)
    for k in range(1, 101):
        at(k / 10)
        tell(k, note="of a table")
    assert len(lines()) == 6 and lines()[-1] == "x: 100 of 100 rows, in 0:10, of a table"


def test_the_total_may_come_later(at, lines):
    tell = Progress("demo", unit="clips")
    at(1)
    tell(5, 10)
    assert lines() == ["demo: 5 of 10 clips"]


@pytest.mark.parametrize(
    "seconds, text", [(5, "0:05"), (65.4, "1:05"), (3661, "1:01:01"), (float("nan"), "?")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
