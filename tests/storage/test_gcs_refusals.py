"""What Google refuses becomes one sentence that says what to do, and each kind of failure an error of its own."""

from pathlib import Path

import pytest

from tests.cloud.gcs import FakeGcs
from tests.cloud.gcs_permissions import PRINCIPAL
from w2v2.storage import files as storage
from w2v2.storage.files import NotFoundError, RefusedError, StorageError, UnreachableError


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
