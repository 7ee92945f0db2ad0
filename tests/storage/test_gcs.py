"""Objects of gs:// buckets, against a loopback server."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import google_crc32c
import pytest
from google.cloud import storage as google_storage

from tests.cloud.gcs import PRINCIPAL, FakeGcs
from w2v2.storage import files as storage
from w2v2.storage import gcs as gs_files
from w2v2.storage.files import DamagedError, NotFoundError, RefusedError, StorageError, UnreachableError


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


@pytest.mark.parametrize(
    ("permission", "role", "act"),
    [
        ("storage.objects.get", "objectViewer", storage.read_bytes),
        ("storage.objects.get", "objectViewer", storage.stat),
        ("storage.objects.list", "objectViewer", storage.list_files),
        ("storage.objects.list", "objectViewer", storage.exists),
        ("storage.objects.create", "objectUser", lambda uri: storage.write_bytes(uri, b"")),
        ("storage.objects.delete", "objectUser", lambda uri: storage.write_bytes(uri, b"")),
        ("storage.objects.delete", "objectUser", storage.delete),
    ],
)
def test_no_permission(gcs: FakeGcs, permission: str, role: str, act) -> None:
    gcs.put("corpus", "x", b"")
    gcs.deny("corpus", permission)
    with pytest.raises(
        StorageError,
        match=rf"gs://corpus/x: {PRINCIPAL} lacks {permission} on bucket 'corpus'; "
        rf"grant it roles/storage\.{role},"
        r" e\.g\. gcloud storage buckets add-iam-policy-binding gs://corpus ",
    ):
        act("gs://corpus/x")
    assert gcs.count() == 1  # not tried again


def test_anonymous_caller_is_asked_to_log_in(gcs: FakeGcs) -> None:
    gcs.put("corpus", "x", b"")
    gcs.require_login()
    with pytest.raises(
        StorageError, match=r"Google wants a login .*run `gcloud auth application-default login`"
    ):
        storage.read_bytes("gs://corpus/x")


def test_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    wanted = r"needs Google credentials and none were found {}: run `gcloud auth application-default login`"
    with pytest.raises(StorageError, match=wanted.format("on this machine")):
        storage.read_bytes("gs://corpus/x")
    with pytest.raises(StorageError, match=wanted.format("on this machine")):
        next(storage.read_many(["gs://corpus/x"], num_at_once=1))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/key.json")
    with pytest.raises(StorageError, match=wanted.format("in GOOGLE_APPLICATION_CREDENTIALS=/no/key.json")):
        storage.read_bytes("gs://corpus/x")


def test_other_refusals_carry_googles_words(gcs: FakeGcs) -> None:
    gcs.faults.add(kind="status", status=400, reason="invalid")
    with pytest.raises(StorageError, match=r"refused the request .*injected 400"):
        storage.read_bytes("gs://corpus/x")


@pytest.mark.parametrize(
    ("status", "message", "advice"),
    [
        (
            403,
            "Object 'corpus/x' is subject to bucket's retention policy or object retention and cannot be deleted or "
            "overwritten until 2027-01-01T00:00:00.000000-08:00",
            "without retention policy",
        ),
        (403, "The billing account for the owning project is disabled in state absent", "billing account"),
        (
            403,
            "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: 4f-Q",
            "VPC service perimeter",
        ),
        (400, "Bucket is a requester pays bucket but no user project provided.", "requester pays off"),
        (403, "The project to be billed is associated with a suspended account", "account enabled again"),
        (403, "Something new", "Google's message"),
    ],
)
def test_a_refusal_carries_googles_words_and_blames_no_permission(
    gcs: FakeGcs, status: int, message: str, advice: str
) -> None:
    gcs.faults.add(kind="status", status=status, message=message, count=-1)
    for act in (storage.read_bytes, storage.list_files, lambda uri: storage.write_bytes(uri, b"")):
        with pytest.raises(RefusedError) as caught:
            act("gs://corpus/x")
        assert advice in str(caught.value) and "lacks" not in str(caught.value)
        # gcsfs has words of its own for requester pays.
        assert status == 400 or message in str(caught.value)


def test_words_of_names_give_no_advice(gcs: FakeGcs) -> None:
    uri = "gs://household-billing/rate limit/disabled speakers.wav"
    gcs.faults.add(kind="status", status=403, message=f"Something new about {uri[5:]}", count=-1)
    with pytest.raises(RefusedError, match="check the uri and Google's message"):
        storage.read_bytes(uri)


@pytest.mark.usefixtures("no_pauses")
def test_kinds_of_failures(gcs: FakeGcs) -> None:
    acts = {
        "exists": storage.exists,
        "stat": storage.stat,
        "list": storage.list_files,
        "read": storage.read_bytes,
        "write": lambda uri: storage.write_bytes(uri, b""),
        "create": lambda uri: storage.create(uri, b""),
        "delete": storage.delete,
        "stat_many": lambda uri: storage.stat_many([uri], num_at_once=1),
        "read_many": lambda uri: list(storage.read_many([uri], num_at_once=1)),
    }
    for act in (storage.stat, storage.list_files, storage.read_bytes):
        for uri in ("gs://corpus/none", "gs://korpus/none"):
            with pytest.raises(NotFoundError):
                act(uri)
    for act in acts.values():  # an answer that never comes is no "not there", and no property of the file
        gcs.faults.add(kind="status", status=503, count=-1)
        with pytest.raises(UnreachableError):
            act("gs://corpus/x")
        gcs.faults.clear()
    gcs.put("corpus", "x", b"data")
    for permission in ("get", "list", "create", "delete"):
        gcs.deny("corpus", f"storage.objects.{permission}")
    for name in ("exists", "stat", "list", "read", "write", "delete"):
        with pytest.raises(RefusedError):
            acts[name]("gs://corpus/x")
    assert isinstance(acts["read_many"]("gs://corpus/x")[0], RefusedError)
    gcs.stop()
    for act in acts.values():
        with pytest.raises(UnreachableError):
            act("gs://corpus/x")


@pytest.mark.usefixtures("no_pauses")
def test_a_missing_object_in_a_bucket_that_stops_answering_is_a_missing_object(gcs: FakeGcs) -> None:
    for kind in ("status", "reset"):
        gcs.faults.add(kind=kind, path_contains="/b/corpus/o?", count=-1)
        with pytest.raises(NotFoundError, match="no such object"):
            storage.read_bytes("gs://corpus/none")
        gcs.faults.clear()


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
