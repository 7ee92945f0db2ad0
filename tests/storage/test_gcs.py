"""Objects of gs:// buckets, against a loopback server."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import google_crc32c
import pytest
from google.cloud import storage as google_storage

from tests.cloud.gcs import FakeGcs
from w2v2.storage import files as storage
from w2v2.storage import gcs as gs_files
from w2v2.storage.files import DamagedError, StorageError


def test_read_many_holds_a_window_only(gcs: FakeGcs) -> None:
    for k in range(50):
        gcs.put("corpus", f"{k}", b"x")
    reader = storage.read_many([f"gs://corpus/{k}" for k in range(50)], num_at_once=5)
    next(reader)
    time.sleep(0.2)
    assert gcs.count("GET") <= 6
    reader.close()


def test_agrees_with_googles_own_client(gcs: FakeGcs) -> None:
    bucket = google_storage.Client(project="w2v2-test").bucket("corpus")
    storage.write_bytes("gs://corpus/ours", b"ours")
    assert bucket.blob("ours").download_as_bytes() == b"ours"
    bucket.blob("folder/").upload_from_string(b"")
    assert storage.exists("gs://corpus/folder")
    assert storage.list_files("gs://corpus/folder") == []
    bucket.blob("folder/theirs").upload_from_string(b"theirs")
    [info] = storage.list_files("gs://corpus/folder")
    assert storage.read_bytes(info.uri) == b"theirs"
    blob = bucket.get_blob("folder/theirs")
    assert info.fingerprint == f"{blob.crc32c}-{blob.generation}"


def test_listing_goes_over_pages(gcs: FakeGcs) -> None:
    for k in range(2_003):
        gcs.put("corpus", f"many/{k:04}", b"")
    assert [info.uri for info in storage.list_files("gs://corpus/many")] == [
        f"gs://corpus/many/{k:04}" for k in range(2_003)
    ]
    assert gcs.count("GET", "/b/corpus/o") == 3


def test_a_large_object_goes_in_parts(gcs: FakeGcs) -> None:
    data = os.urandom(1 << 20) * 51
    storage.write_bytes("gs://corpus/large", data)
    assert storage.read_bytes("gs://corpus/large") == data
    assert gcs.count("POST", "/upload") == 3


def test_empty_bucket_is_an_empty_list_and_a_missing_one_an_error(gcs: FakeGcs) -> None:
    assert storage.list_files("gs://corpus") == []
    gcs.put("corpus", "x", b"")
    for act in (
        storage.list_files,
        storage.exists,
        storage.stat,
        storage.read_bytes,
        lambda uri: storage.write_bytes(uri, b""),
    ):
        with pytest.raises(StorageError, match=r"gs://korpus/x: there is no bucket 'korpus'; check its name"):
            act("gs://korpus/x")
    with pytest.raises(
        StorageError, match=r"gs://corpus/y: no such object in bucket 'corpus'; check its name"
    ):
        storage.read_bytes("gs://corpus/y")
    gcs.deny("corpus", "storage.objects.list")
    with pytest.raises(
        StorageError, match=r"gs://corpus/y: no such object in bucket 'corpus'; check its name"
    ):
        storage.read_bytes("gs://corpus/y")


@pytest.mark.parametrize("uri", ["gs://corpus", "gs://corpus/", "gs://corpus/folder/", "gs://"])
def test_a_bucket_or_folder_is_no_object(gcs: FakeGcs, uri: str) -> None:
    for act in (storage.read_bytes, storage.stat, storage.delete, lambda uri: storage.write_bytes(uri, b"")):
        with pytest.raises(StorageError, match="names no object; write gs://bucket/name"):
            act(uri)
    assert gcs.requests == []


def test_one_flipped_byte_is_read_again_and_two_are_damage(gcs: FakeGcs) -> None:
    data = os.urandom(10_007)
    gcs.put("corpus", "x", data)
    gcs.faults.add(kind="flip_byte", path_contains="/o/x")
    assert storage.read_bytes("gs://corpus/x") == data
    assert gcs.count("GET") == 2
    gcs.faults.add(kind="flip_byte", path_contains="/o/x", count=2)
    [outcome] = storage.read_many(["gs://corpus/x"], num_at_once=1)
    assert isinstance(outcome, DamagedError)
    assert str(outcome).startswith("gs://corpus/x: damaged: read twice")


def test_a_damaged_upload_is_noticed(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> None:
    store, damaged = gcs._store, [True, False, True, True]

    def flip(bucket, name, data, resource):  # the fake's disk, not our code
        return store(bucket, name, b"?" + data[1:] if damaged.pop(0) else data, resource)

    monkeypatch.setattr(gcs, "_store", flip)
    storage.write_bytes("gs://corpus/x", b"data")
    assert gcs.get("corpus", "x") == b"data"
    with pytest.raises(StorageError, match="gs://corpus/x: damaged: written twice"):
        storage.write_bytes("gs://corpus/x", b"data")


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("kind", ["status", "reset", "truncate", "lost_answer"])
def test_faults_are_survived(gcs: FakeGcs, kind) -> None:
    data = os.urandom(10_007)
    for act in (
        lambda: storage.write_bytes("gs://corpus/x", data),
        lambda: storage.read_bytes("gs://corpus/x"),
        lambda: storage.list_files("gs://corpus"),
        lambda: storage.delete("gs://corpus/x"),
    ):
        gcs.faults.add(kind=kind, count=3)
        act()
        assert gcs.faults.unused() == 0
    assert gcs.names("corpus") == []


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("seed", range(5))
def test_random_faults_lose_nothing(gcs: FakeGcs, seed: int) -> None:
    gcs.faults.randomly(
        seed, {"status": 0.1, "reset": 0.05, "lost_answer": 0.05, "truncate": 0.05, "flip_byte": 0.01}
    )
    rng = random.Random(seed)
    files = {f"gs://corpus/{k}": rng.randbytes(k * 101) for k in range(31)}
    storage.write_many(files.items(), num_at_once=7)
    assert [info.uri for info in storage.list_files("gs://corpus")] == sorted(files)
    assert list(storage.read_many(list(files), num_at_once=7)) == list(files.values())
    assert len({logged.fault for logged in gcs.requests} - {""}) >= 3


@pytest.mark.usefixtures("no_pauses")
def test_a_dead_server_fails_with_one_sentence(gcs: FakeGcs) -> None:
    gcs.put("corpus", "x", b"")
    gcs.faults.add(kind="status", count=-1)
    with pytest.raises(
        StorageError, match=r"could not be reached or did not answer .*503.*run the same command"
    ):
        storage.read_bytes("gs://corpus/x")
    assert gcs.count() == 6
    gcs.stop()
    with pytest.raises(StorageError, match=r"could not be reached or did not answer .*check the network"):
        storage.read_bytes("gs://corpus/x")


@pytest.mark.usefixtures("no_pauses")
def test_a_silent_server_is_given_up(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> None:
    gs_files.client_of.cache_clear()
    monkeypatch.setattr(gs_files, "SILENCE_S", 0.1)
    gcs.put("corpus", "x", b"data")
    gcs.faults.add(kind="delay", delay_s=0.4)
    assert storage.read_bytes("gs://corpus/x") == b"data"  # the second try is answered
    gcs.faults.add(kind="delay", delay_s=0.4, count=-1)
    with pytest.raises(StorageError, match=r"did not answer \(SocketTimeoutError"):
        storage.read_bytes("gs://corpus/x")
    gs_files.client_of.cache_clear()


def test_reads_overlap(gcs: FakeGcs) -> None:
    uris = [f"gs://corpus/{k}" for k in range(60)]
    for k in range(60):
        gcs.put("corpus", f"{k}", b"x" * k)
    in_flight = {}
    for num_at_once, delay_s in ((1, 0.02), (16, 0.3)):
        gcs.faults.clear()
        gcs.faults.add(kind="delay", delay_s=delay_s, count=-1)
        gcs.max_in_flight = 0
        assert [len(data) for data in storage.read_many(uris, num_at_once=num_at_once)] == list(range(60))
        in_flight[num_at_once] = gcs.max_in_flight
    assert in_flight[1] <= 2  # the next one is asked for while the last is handed over
    assert 10 <= in_flight[16] <= 17
    assert gcs.count("GET") == 120


def test_objects_that_would_leave_the_folder_are_refused(gcs: FakeGcs, tmp_path: Path) -> None:
    for name in ("../evil", "a/../../evil", "/evil", "a//b"):
        gcs.put("corpus", "ok", b"")
        gcs.put("corpus", f"ck/{name}", b"evil")
        with pytest.raises(StorageError, match="not a plain relative name"):
            storage.download_folder("gs://corpus/ck", tmp_path / "inner" / "copy")
        assert list(tmp_path.iterdir()) == []
        storage.delete(f"gs://corpus/ck/{name}")


def _read_in_child(queue) -> None:
    queue.put(storage.read_bytes("gs://corpus/x"))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_makes_its_own_client(gcs: FakeGcs, method: str) -> None:
    storage.write_bytes("gs://corpus/x", b"seen by parent")
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == b"seen by parent"
    child.join(timeout=60)
    assert child.exitcode == 0
    assert storage.read_bytes("gs://corpus/x") == b"seen by parent"


def test_checksum_is_the_published_one(gcs: FakeGcs) -> None:
    gcs.put("corpus", "x", b"123456789")
    assert google_crc32c.value(b"123456789") == 0xE3069283  # RFC 3720's check value
    assert storage.stat("gs://corpus/x").fingerprint.startswith("4waSgw==-")
