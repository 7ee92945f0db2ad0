"""The fake of Google Cloud Storage: the real clients agree with it, and its faults are what they say."""

import http.client
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import gcsfs.core
import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage

from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.cloud.gcs_permissions import PRINCIPAL

LARGE = os.urandom(3 * 2**20 + 17)


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs("bucket") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def bucket(gcs: FakeGcs) -> storage.Bucket:
    return storage.Client(project="w2v2-test").bucket("bucket")


@pytest.fixture
def fs(gcs: FakeGcs) -> gcsfs.core.GCSFileSystem:
    return gcsfs.core.GCSFileSystem(token="anon", use_listings_cache=False, skip_instance_cache=True)


# -- google-cloud-storage


def test_buckets(bucket: storage.Bucket) -> None:
    client = bucket.client
    assert [bucket.name for bucket in client.list_buckets()] == ["bucket"]
    client.create_bucket("second")
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("second")
    assert client.get_bucket("second").name == "second" and client.lookup_bucket("third") is None
    client.bucket("second").delete()
    assert not client.bucket("second").exists()
    with pytest.raises(exceptions.NotFound, match="The specified bucket does not exist"):
        client.bucket("third").blob("x").download_as_bytes()


@pytest.mark.parametrize("data", [b"", b"\r\n", b"--", LARGE], ids=len)
def test_upload_and_download(gcs: FakeGcs, bucket: storage.Bucket, data: bytes) -> None:
    blob = bucket.blob("a/b c%2F#?.bin")
    blob.metadata = {"key": "value"}
    blob.upload_from_string(data, content_type="audio/wav", checksum="crc32c")
    assert gcs.get("bucket", "a/b c%2F#?.bin") == data
    stored = bucket.get_blob("a/b c%2F#?.bin")
    assert (stored.size, stored.content_type, stored.metadata) == (len(data), "audio/wav", {"key": "value"})
    assert stored.download_as_bytes(checksum="md5") == data
    assert stored.download_as_bytes(checksum="crc32c") == data


def test_resumable_upload_in_chunks(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    blob = bucket.blob("chunks", chunk_size=2**20)
    with blob.open("wb") as file:
        file.write(LARGE)
    assert gcs.get("bucket", "chunks") == LARGE
    assert gcs.count("PUT") == 4
    with blob.open("rb") as file:
        assert file.read() == LARGE


def test_ranges(bucket: storage.Bucket) -> None:
    blob = bucket.blob("digits")
    blob.upload_from_string(b"0123456789")
    assert blob.download_as_bytes(start=3, end=5) == b"345"
    assert blob.download_as_bytes(start=-4) == b"6789"
    assert blob.download_as_bytes(start=8, end=100) == b"89"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)


def test_preconditions_and_generations(bucket: storage.Bucket) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string(b"one", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string(b"two", if_generation_match=0)
    first = bucket.get_blob("x").generation
    bucket.blob("x").upload_from_string(b"two", if_generation_match=first)
    with pytest.raises(exceptions.NotFound, match="No such object: bucket/x"):
        bucket.blob("x", generation=first).download_as_bytes()
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("x").delete(if_generation_match=first)
    assert bucket.blob("x").download_as_bytes() == b"two"
    bucket.blob("x").delete()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("x").delete()


@pytest.mark.parametrize(("crc32c", "status"), [("4waSgw==", 200), ("AAAAAA==", 400)])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_wrong_checksum_is_refused(gcs: FakeGcs, crc32c: str, status: int, end: bytes) -> None:
    head = b"--b", b"Content-Type: application/json", b"", f'{{"name": "x", "crc32c": "{crc32c}"}}'.encode()
    body = end.join([*head, b"--b", b"Content-Type: text/plain", b"", b"123456789", b"--b--"])
    answer = requests.post(
        f"{gcs.url}/upload/storage/v1/b/bucket/o?uploadType=multipart",
        data=body,
        headers={"Content-Type": "multipart/related; boundary=b"},
        timeout=10,
    )
    assert answer.status_code == status
    assert gcs.names("bucket") == (["x"] if status == 200 else [])


def test_listing(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    for name in ("a/1", "a/2", "a/b/3", "c", "d/4"):
        gcs.put("bucket", name, b"")
    client = bucket.client

    def names(**options: object) -> tuple[list[str], set[str]]:
        listed = client.list_blobs("bucket", **options)
        return [blob.name for blob in listed], listed.prefixes

    assert names() == (["a/1", "a/2", "a/b/3", "c", "d/4"], set())
    assert names(delimiter="/") == (["c"], {"a/", "d/"})
    assert names(prefix="a/", delimiter="/") == (["a/1", "a/2"], {"a/b/"})
    assert names(start_offset="a/2", end_offset="d") == (["a/2", "a/b/3", "c"], set())
    gcs.requests.clear()
    assert names(page_size=2) == (["a/1", "a/2", "a/b/3", "c", "d/4"], set())
    assert gcs.count("GET") == 3
    assert names(page_size=1, delimiter="/") == (["c"], {"a/", "d/"})


def test_copy_compose_patch_and_batch(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    gcs.put("bucket", "a", b"A")
    gcs.put("bucket", "b", b"B")
    bucket.copy_blob(bucket.blob("a"), bucket, "copy")
    bucket.blob("rewritten").rewrite(bucket.blob("a"))
    bucket.blob("both").compose([bucket.blob("a"), bucket.blob("b")])
    assert [gcs.get("bucket", name) for name in ("copy", "rewritten", "both")] == [b"A", b"A", b"AB"]
    assert bucket.get_blob("both").md5_hash is None and bucket.blob("both").download_as_bytes() == b"AB"
    blob = bucket.get_blob("a")
    blob.metadata = {"k": "v"}
    blob.patch()
    assert bucket.get_blob("a").metadata == {"k": "v"} and bucket.get_blob("a").metageneration == 2
    with bucket.client.batch():
        bucket.blob("a").delete()
        bucket.blob("both").delete()
    assert gcs.names("bucket") == ["b", "copy", "rewritten"]


def test_permissions(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    gcs.put("bucket", "x", b"")
    gcs.deny("bucket", "storage.objects.get")
    with pytest.raises(
        exceptions.Forbidden, match=f"{PRINCIPAL} does not have storage.objects.get access to the Google"
    ):
        bucket.blob("x").download_as_bytes()
    gcs.allow("bucket", "storage.objects.get")
    gcs.deny("bucket", "storage.objects.delete")
    with pytest.raises(exceptions.Forbidden, match=r"storage\.objects\.delete"):
        bucket.blob("x").upload_from_string(b"overwrites")
    bucket.blob("y").upload_from_string(b"new")
    gcs.require_login()
    with pytest.raises(urllib.error.HTTPError, match="401") as caught:
        fetch(gcs, "/storage/v1/b/bucket/o/y")
    assert b"Anonymous caller does not have storage.objects.get access" in caught.value.read()


# -- gcsfs


def test_gcsfs(gcs: FakeGcs, fs: gcsfs.core.GCSFileSystem) -> None:
    for name, data in [("a/x", b""), ("a/y", b"line\n"), ("a/z", b"\r\n")]:
        fs.pipe_file(f"bucket/{name}", data)
        assert fs.cat_file(f"bucket/{name}") == data
    assert fs.find("bucket") == ["bucket/a/x", "bucket/a/y", "bucket/a/z"]
    assert fs.ls("bucket") == ["bucket/a"] and fs.glob("bucket/*/y") == ["bucket/a/y"]
    assert fs.cat_file("bucket/a/y", start=-3) == b"ne\n"
    with pytest.raises(FileExistsError):
        fs.pipe_file("bucket/a/y", b"", mode="create")
    fs.mv("bucket/a/y", "bucket/moved")
    fs.cp("bucket/moved", "bucket/copied")
    fs.rm("bucket/a", recursive=True)
    assert gcs.names("bucket") == ["copied", "moved"]
    with fs.open("bucket/streamed", "wb", block_size=2**20) as file:
        file.write(LARGE)
    with fs.open("bucket/streamed", "rb") as file:
        assert file.read() == LARGE
    with pytest.raises(FileNotFoundError):
        fs.cat_file("nowhere/x")


# -- pyarrow, in a process of its own: it keeps the GIL while it waits for an answer

PYARROW = """
import os, sys
import pyarrow as pa, pyarrow.dataset, pyarrow.parquet
from pyarrow import fs
gcs = fs.GcsFileSystem(endpoint_override=sys.argv[1], scheme="http", anonymous=True)
large = os.urandom(3 * 2**20 + 17)
with gcs.open_output_stream("bucket/p/x") as file:
    file.write(large)
with gcs.open_input_file("bucket/p/x") as file:
    assert file.read_at(5, 100) == large[100:105] and file.read() == large
gcs.copy_file("bucket/p/x", "bucket/p/y")
gcs.delete_file("bucket/p/x")
assert [info.path for info in gcs.get_file_info(fs.FileSelector("bucket/p"))] == ["bucket/p/y"]
gcs.create_dir("bucket/dir/sub")
gcs.delete_dir("bucket/dir")
pa.parquet.write_table(pa.table({"a": [1, 2]}), "bucket/t/a.parquet", filesystem=gcs)
assert pa.dataset.dataset("bucket/t", filesystem=gcs).to_table().to_pydict() == {"a": [1, 2]}
assert fs.FileSystem.from_uri("gs://anonymous@bucket/t")[0].get_file_info("bucket/t/a.parquet").size > 0
"""


def test_pyarrow(gcs: FakeGcs) -> None:
    subprocess.run([sys.executable, "-c", PYARROW, gcs.host], check=True, timeout=60)
    assert gcs.names("bucket") == ["p/y", "t/a.parquet"]
    assert {logged.status for logged in gcs.requests} <= {0, 200, 204, 206, 308, 404}


# -- the server itself


def fetch(gcs: FakeGcs, path: str) -> bytes:
    with urllib.request.urlopen(gcs.url + path, timeout=10) as answer:
        return answer.read()


MEDIA = "/storage/v1/b/bucket/o/x?alt=media"


def test_unimplemented_requests_are_501_and_named(gcs: FakeGcs) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(gcs, "/storage/v1/b/bucket/acl?projection=full")
    assert caught.value.code == 501
    assert b"not in this fake: GET /storage/v1/b/bucket/acl?projection=full" in caught.value.read()


def test_faults_fire_as_often_as_asked_and_are_logged(gcs: FakeGcs) -> None:
    gcs.put("bucket", "x", b"0123456789")
    gcs.faults.add(kind="status", status=429, count=2, reason="rateLimitExceeded", path_contains="/o/x")
    gcs.faults.add(kind="flip_byte", method="GET")
    gcs.faults.add(kind="truncate", path_contains="alt=media")
    gcs.faults.add(kind="reset")
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError, match="429") as caught:
            fetch(gcs, MEDIA)
        assert b'"reason": "rateLimitExceeded"' in caught.value.read()
    assert sum(a != b for a, b in zip(fetch(gcs, MEDIA), b"0123456789", strict=True)) == 1
    with pytest.raises(http.client.IncompleteRead, match=r"5 bytes read, 5 more expected"):
        fetch(gcs, MEDIA)
    with pytest.raises(ConnectionResetError):
        fetch(gcs, MEDIA)
    assert fetch(gcs, MEDIA) == b"0123456789" and gcs.faults.unused() == 0
    logged = [(request.status, request.fault) for request in gcs.requests]
    assert logged == [(429, "status")] * 2 + [(200, "flip_byte"), (200, "truncate"), (0, "reset"), (200, "")]


def test_a_lost_answer_is_applied_and_a_reset_is_not(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    blob = bucket.blob("x")
    for kind, names in [("reset", []), ("lost_answer", ["x"])]:
        gcs.faults.add(kind=kind)
        with pytest.raises(Exception, match="Connection"):
            blob.upload_from_string(b"", retry=None)
        assert gcs.names("bucket") == names


def test_random_faults_repeat_with_their_seed(gcs: FakeGcs) -> None:
    def kinds(seed: int) -> list[str]:
        with FakeGcs("bucket") as server:
            server.put("bucket", "x", b"data")
            server.faults.randomly(seed, {"status": 0.3, "flip_byte": 0.2})
            for _ in range(40):
                try:
                    fetch(server, MEDIA)
                except urllib.error.HTTPError as error:
                    assert error.code == 503
            return [request.fault for request in server.requests]

    first = kinds(1)
    assert first == kinds(1) and first != kinds(2)
    assert {"status", "flip_byte", ""} == set(first)


def test_requests_are_served_at_once_and_delays_overlap(gcs: FakeGcs) -> None:
    gcs.put("bucket", "x", b"data")
    gcs.faults.add(kind="delay", delay_s=1.0, count=-1)
    threads = [threading.Thread(target=fetch, args=(gcs, MEDIA)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gcs.max_in_flight == 8


def test_a_stopped_server_answers_no_more(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    bucket.blob("x").upload_from_string(b"")
    gcs.stop()
    with pytest.raises(Exception, match=r"Connection|Remote end closed"):
        bucket.blob("x").download_as_bytes(retry=None)
