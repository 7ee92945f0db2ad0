"""Reading from a bucket, several ways."""

import subprocess
import sys

import pytest

from w2v2.benchmarks import processes, reading_case
from w2v2.benchmarks.config import (
    ReadingSizes,
)
from w2v2.errors import UserError


def test_all_ways_to_read_a_bucket_give_the_same(bucket, monkeypatch):
    sizes = ReadingSizes(num_objects=5, object_bytes=1000, latency_s=0.0, num_at_once=3)
    for number in range(5):
        bucket.put("bench", reading_case._name(number), bytes([number]) * 1000)
    rounds = reading_case.read_rounds(sizes, {}, 1)
    assert len(rounds.results) == 3
    assert len({digests[0] for digests in rounds.results.values()}) == 1
    # 3 ways to read 5 objects, and one warm-up for each of two clients.
    assert bucket.count("GET", "clips/") >= 17


def test_the_loopback_bucket_waits(monkeypatch):
    sizes = ReadingSizes(num_objects=2, object_bytes=10, latency_s=0.15)
    with reading_case.loopback_bucket(sizes, seed=0) as environment:
        url = f"{environment['STORAGE_EMULATOR_HOST']}/storage/v1/b/bench/o/clips%2F00001.wav?alt=media"
        code = f"import time, urllib.request as u; t = time.time(); b = u.urlopen({url!r}).read(); print(len(b), time.time() - t > 0.15)"
        output = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    assert output.split() == ["10", "True"]


def test_reading_and_jobs_need_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(reading_case, "ROOT", tmp_path)
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    with pytest.raises(
        UserError,
        match=r"needs the loopback bucket of the tests, and there is no .*serve_bucket.py: run it from a",
    ):
        reading_case.check_server()
    with pytest.raises(
        UserError, match=r"there is no .*tune_folds.py: run jobs/benchmark.py from a checkout"
    ):
        processes.job_file("tune_folds")
