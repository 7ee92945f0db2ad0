"""Listings page by page, of gs:// folders in ranges of names side by side, against a loopback server."""

import pytest

from tests.cloud.gcs import FakeGcs, without_pauses
from tests.cloud.serve_corpus import BUCKET, CorpusGcs, gcs_environment, item_of
from w2v2.storage import files as storage
from w2v2.storage import gcs_listing, listing
from w2v2.storage.files import NotFoundError, RefusedError, UnreachableError
from w2v2.storage.listing import file_tables


def uris(folder: str, num_rows: int = 700) -> list[str]:
    tables = list(file_tables(folder, num_rows=num_rows))
    assert all(len(table) == num_rows for table in tables[:-1])
    return [uri for table in tables for uri in table["uri"].to_pylist()]


@pytest.mark.parametrize("ranges", [1, 3, 256])
def test_all_names_are_listed_in_order_however_they_are_cut(bucket: FakeGcs, monkeypatch, ranges) -> None:
    monkeypatch.setattr(gcs_listing, "MAX_RANGES", ranges)
    names = [f"a/{number % 7}/{number:04d}.wav" for number in range(2600)]
    names += ["a/.hidden", "a/0.wav", "a/0/", "a/3-b.wav", "a/zz/deep/x.wav", "a/é.wav"]
    for name in [*names, "ab/other.wav", "a.wav"]:
        bucket.put("speech", name, name.encode())
    wanted = [f"gs://speech/{name}" for name in sorted(names) if not name.endswith("/")]
    assert uris("gs://speech/a") == wanted
    infos = storage.list_files("gs://speech/a", hidden=True)
    assert [info.uri for info in infos] == wanted
    assert infos[5] == storage.stat(infos[5].uri)
    assert len(storage.list_files("gs://speech/a")) == len(wanted) - 1
    assert len(uris("gs://speech")) == len(wanted) + 2


def test_one_folder_within_another_is_cut_by_its_own_folders(monkeypatch) -> None:
    with CorpusGcs(4_500) as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        assert uris(f"gs://{BUCKET}/audio") == [
            f"gs://{BUCKET}/audio/{n // 1000:06d}/{n:08d}.wav" for n in range(4_500)
        ]
        assert server.count("GET", "/o") <= 4_500 / 1000 + 6
        [table] = file_tables(f"gs://{BUCKET}/audio", num_rows=5_000)
        item = item_of("audio/000001/00001234.wav")
        assert table["fingerprint"][1234].as_py() == f"{item['crc32c']}-{item['generation']}"


def test_missing_folders_files_and_failures_are_distinguished(bucket: FakeGcs) -> None:
    bucket.put("speech", "a/0.wav", b"")
    with pytest.raises(
        NotFoundError, match="nothing is there: bucket 'speech' has no objects below that name"
    ):
        uris("gs://speech/b")
    with pytest.raises(NotFoundError, match="there is no bucket 'other'"):
        uris("gs://other/b")
    with pytest.raises(RefusedError, match="is a file, where a folder was wanted"):
        uris("gs://speech/a/0.wav")
    for number in range(1500):
        bucket.put("speech", f"a/{number}.wav", b"")
    bucket.deny("speech", "storage.objects.list")
    with pytest.raises(RefusedError, match=r"lacks storage.objects.list on bucket 'speech'"):
        uris("gs://speech/a")


def test_a_bucket_that_stops_answering_is_not_taken_for_a_missing_folder(
    bucket: FakeGcs, monkeypatch
) -> None:
    without_pauses(monkeypatch)
    bucket.put("speech", "a/0.wav", b"")
    bucket.faults.add(kind="status", method="GET", path_contains="/o/b", count=99)
    with pytest.raises(UnreachableError, match="could not be reached or did not answer"):
        uris("gs://speech/b")


def test_a_failure_of_a_later_page_ends_the_listing(bucket: FakeGcs) -> None:
    for number in range(2500):
        bucket.put("speech", f"a/{number:04d}.wav", b"")
    tables = file_tables("gs://speech/a", num_rows=500)
    assert len(next(tables)) == 500
    bucket.deny("speech", "storage.objects.list")
    with pytest.raises(RefusedError, match=r"lacks storage.objects.list"):
        list(tables)


def test_local_folders_are_listed_too(tmp_path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.wav").write_bytes(bytes(number))
    assert uris(str(tmp_path), 2) == [str(tmp_path / f"{number}.wav") for number in range(5)]
    assert listing.table_of([]).schema == listing.LISTING


def test_of_many_missing_objects_one_asks_for_the_bucket(bucket: FakeGcs) -> None:
    results = list(storage.read_many([f"gs://speech/{number}" for number in range(20)], num_at_once=1))
    assert all(isinstance(error, NotFoundError) for error in results)
    assert sum(logged.path.endswith("/o") for logged in bucket.requests) == 1
