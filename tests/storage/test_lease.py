"""Of two drivers on one run directory, local or gs://, one continues and the other ends with a sentence on who holds it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import ROOT
from tests.cloud.gcs import FakeGcs, gcs_environment, without_pauses
from w2v2.config.tune_folds import SearchConfig
from w2v2.errors import UserError
from w2v2.search.study import Study
from w2v2.storage import files as storage
from w2v2.storage import lease
from w2v2.storage.lease import exclusive, hold

HOLDER = """
import sys, time
from w2v2.storage import lease
lease.RENEWAL_S = 0.2
with lease.hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "EXPIRY_S", 1.2)
    monkeypatch.setattr(lease, "RENEWAL_S", 0.1)
    monkeypatch.setattr(lease, "_POLL_S", 0.05)


@pytest.fixture(params=["local", "gs"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "run")
    request.getfixturevalue("gcs")
    return "gs://corpus/run"


def holder_of(run: str, gcs: FakeGcs) -> subprocess.Popen:
    """A process that holds the run directory."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, run],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **gcs_environment(gcs), "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    return child


def foreign(**changes) -> bytes:
    """The lease of a process on another machine."""
    return json.dumps(
        {"host": "head-7", "user": "ann", "process": 12, "machine": "boot ns", **changes}
    ).encode()


def test_a_name_that_no_file_system_takes_is_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="File name too long; use another path"),
        lease.hold(f"{tmp_path}/{'a' * 300}"),
    ):
        pass


def test_one_holds_it_and_it_is_free_afterwards(run: str) -> None:
    refusal = rf"run is in use by process {os.getpid()} of \S+ on \S+ since 20.*--run"
    with hold(run):
        assert storage.exists(f"{run}/lease.json")
        for _ in range(2):
            with pytest.raises(UserError, match=refusal), hold(run):
                pass
    assert not storage.exists(f"{run}/lease.json")
    with hold(run):
        pass
    assert not storage.exists(run), "a job that wrote nothing leaves nothing"


def test_it_is_free_after_an_error_and_what_was_written_stays(run: str) -> None:
    with pytest.raises(ZeroDivisionError), hold(run):
        storage.write_bytes(f"{run}/x", b"")
        raise ZeroDivisionError
    with hold(run):
        pass
    assert [info.uri for info in storage.list_files(run)] == [f"{run}/x"]


def test_of_many_at_once_one_gets_it(run: str) -> None:
    barrier, ends = threading.Barrier(8), threading.Event()
    outcomes: queue.Queue[str] = queue.Queue()

    def work() -> None:
        barrier.wait()
        try:
            with hold(run):
                outcomes.put("held")
                ends.wait(20)
        except UserError:
            outcomes.put("refused")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    reported = sorted(outcomes.get(timeout=20) for _ in threads)
    ends.set()
    for thread in threads:
        thread.join()
    assert reported == ["held"] + ["refused"] * 7


@pytest.mark.parametrize("place", ["local", "gs"])
def test_a_killed_holder_of_this_machine_keeps_nobody_waiting(
    place: str, tmp_path: Path, gcs: FakeGcs
) -> None:
    run = str(tmp_path / "run") if place == "local" else "gs://corpus/run"
    child = holder_of(run, gcs)
    with pytest.raises(UserError, match=f"in use by process {child.pid} of"), hold(run):
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    started = time.monotonic()
    with hold(run):
        assert time.monotonic() - started < 5


def test_a_holder_elsewhere_that_does_not_renew_is_succeeded(gcs: FakeGcs, quick: None) -> None:
    gcs.put("corpus", "run/lease.json", foreign())
    started = time.monotonic()
    with hold("gs://corpus/run"):
        assert time.monotonic() - started > lease.EXPIRY_S


def test_a_holder_elsewhere_that_renews_is_named(gcs: FakeGcs, quick: None) -> None:
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.1):
            gcs.put("corpus", "run/lease.json", foreign(since=time.time()))

    gcs.put("corpus", "run/lease.json", foreign())
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with (
            pytest.raises(UserError, match="run is in use by process 12 of ann on head-7 since"),
            hold("gs://corpus/run"),
        ):
            pass
    finally:
        stop.set()
        thread.join()


def test_a_lease_is_renewed_and_survives_a_bucket_that_does_not_answer(
    gcs: FakeGcs, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pauses(monkeypatch)
    with hold("gs://corpus/run"):
        gcs.faults.add(kind="status", method="POST", count=8)
        gcs.faults.add(kind="lost_answer", method="POST", count=1)
        until = time.monotonic() + 10
        while gcs.faults.unused() and time.monotonic() < until:
            time.sleep(0.05)
        after_faults = storage.read_version("gs://corpus/run/lease.json")[1]
        while (renewed := storage.read_version("gs://corpus/run/lease.json")[1]) == after_faults:
            assert time.monotonic() < until, "no renewal after the last fault"
            time.sleep(0.05)
        assert not gcs.faults.unused() and renewed > after_faults
    assert gcs.names("corpus") == []


def test_a_process_takes_up_a_lease_that_it_could_not_remove(
    gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook, where the process of the job before is alive."""
    without_pauses(monkeypatch)
    with hold("gs://corpus/run"):
        gcs.faults.add(kind="status", method="DELETE", count=-1)
    assert gcs.names("corpus") == ["run/lease.json"]
    gcs.faults.clear()
    with (
        hold("gs://corpus/run"),
        pytest.raises(UserError, match="is in use by process"),
        hold("gs://corpus/run"),
    ):
        pass
    assert gcs.names("corpus") == []


def test_a_lease_that_was_taken_over_ends_the_process_with_a_sentence(gcs: FakeGcs) -> None:
    child = holder_of("gs://corpus/run", gcs)
    gcs.put("corpus", "run/lease.json", foreign())
    _, words = child.communicate(timeout=30)
    assert child.returncode == 2
    assert words.startswith(b"error: gs://corpus/run is in use by process 12 of ann on head-7 since")
    assert gcs.names("corpus") == ["run/lease.json"], "the lease of the other is left alone"


def test_a_main_function_holds_its_run_but_for_a_plan(tmp_path: Path) -> None:
    @dataclass
    class Config:
        run: str
        plan: bool = False

    @exclusive
    def main(config: Config) -> bool:
        return Path(config.run, "lease.json").exists()

    assert main(Config(run=str(tmp_path / "run"))) is True
    assert main(Config(run=str(tmp_path / "run"), plan=True)) is False
    assert main.__name__ == "main" and list(tmp_path.iterdir()) == []


def test_versions_are_written_by_one_of_several(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)
    uri = "gs://corpus/x"
    gcs.faults.add(kind="lost_answer", method="POST")
    first = storage.write_version(uri, b"one", 0)
    assert first is not None and storage.read_version(uri) == (b"one", first)
    assert storage.write_version(uri, b"other", 0) is None
    second = storage.write_version(uri, b"two", first)
    assert second is not None and second > first
    assert storage.write_version(uri, b"late", first) is None and storage.read_bytes(uri) == b"two"
    storage.delete_version(uri, first)
    assert storage.read_bytes(uri) == b"two"
    storage.delete_version(uri, second)
    assert not storage.exists(uri) and storage.write_version(uri, b"three", second) is None


def test_two_studies_in_one_bucket_do_not_mix(gcs: FakeGcs) -> None:
    def study() -> Study:
        return Study("gs://corpus/run", search=SearchConfig(), space={}, defaults={}, seed=0)

    first = study()
    second = study()
    with pytest.raises(
        UserError, match=r"study.db was written by another process: another job works on this run"
    ):
        first.ask()
    assert second.ask() is not None
