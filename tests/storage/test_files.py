"""What every storage promises, local or gs://."""

import os
from pathlib import Path

import pytest

from w2v2.storage import files as storage
from w2v2.storage.files import StorageError

ODD_NAMES = ["a b.wav", "c#d?e.wav", "100%25.wav", "caf\u00e9/{0}.wav", "plus+and&.wav", "x//y.wav"]


@pytest.fixture(params=["local", "gs"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    request.getfixturevalue("gcs")
    return "gs://corpus"


def test_what_is_written_is_read(base: str) -> None:
    uri = storage.join(base, "deep/er", "x.bin")
    for data in (b"", b"\n", b"\r\n", b"--==0==--", os.urandom(100_003)):
        storage.write_bytes(uri, data)
        assert storage.read_bytes(uri) == data
    storage.write_text(uri, "caf\u00e9\n")
    assert storage.read_text(uri) == "caf\u00e9\n"


def test_names_with_odd_characters(base: str) -> None:
    names = [name for name in ODD_NAMES if base.startswith("gs://") or "//" not in name]
    storage.write_many([(f"{base}/{name}", name.encode()) for name in names], num_at_once=3)
    uris = [info.uri for info in storage.list_files(base)]
    assert uris == sorted(f"{base}/{name}" for name in names)
    assert [bytes(data).decode() for data in storage.read_many(uris, num_at_once=2)] == sorted(names)
    assert [storage.stat(uri) for uri in uris] == storage.list_files(base)
    for uri in uris:
        storage.delete(uri)
        assert not storage.exists(uri)


def test_list_is_recursive_sorted_filtered_and_leaves_hidden_out(base: str) -> None:
    names = ["b.WAV", "a/2.wav", "a/10.wav", "a/notes.txt", ".hidden.wav", "a/.git/x.wav", "__MACOSX/._b.wav"]
    storage.write_many([(f"{base}/top/{name}", b"123") for name in names], num_at_once=4)
    storage.write_bytes(f"{base}/topping.wav", b"outside the folder")
    files = storage.list_files(f"{base}/top", suffixes=(".wav",))
    assert [info.uri for info in files] == [f"{base}/top/{name}" for name in ("a/10.wav", "a/2.wav", "b.WAV")]
    assert {info.size_bytes for info in files} == {3}
    assert len(storage.list_files(f"{base}/top/")) == 4


def test_fingerprint_follows_content(base: str) -> None:
    uri = f"{base}/x.bin"
    storage.write_bytes(uri, b"one")
    first = storage.stat(uri)
    assert storage.stat(uri) == first
    storage.write_bytes(uri, b"two")
    assert storage.stat(uri).fingerprint != first.fingerprint


def test_exists_knows_files_folders_and_neither(base: str) -> None:
    storage.write_bytes(f"{base}/a/b.txt", b"")
    storage.write_bytes(f"{base}/a-b", b"")
    assert storage.exists(f"{base}/a/b.txt") and storage.exists(f"{base}/a") and storage.exists(f"{base}/a/")
    assert not storage.exists(f"{base}/a/b") and not storage.exists(f"{base}/a/b.tx")


def test_delete_is_repeatable(base: str) -> None:
    storage.write_bytes(f"{base}/x", b"1")
    storage.delete(f"{base}/x")
    storage.delete(f"{base}/x")
    assert not storage.exists(f"{base}/x")


def test_many_come_in_order_with_errors_in_place(base: str) -> None:
    uris = [f"{base}/{k}.bin" for k in range(11)]
    written = [uri for k, uri in enumerate(uris) if k != 7]
    storage.write_many([(uri, uri.encode()) for uri in written], num_at_once=5)
    for num_at_once in (1, 4, 64):
        read = list(storage.read_many(uris, num_at_once=num_at_once))
        assert [data for data in read if isinstance(data, bytes)] == [uri.encode() for uri in written]
        assert isinstance(read[7], StorageError) and uris[7] in str(read[7])
        infos = storage.stat_many(uris, num_at_once=num_at_once)
        assert isinstance(infos[7], StorageError) and infos[3] == storage.stat(uris[3])
    assert list(storage.read_many([], num_at_once=3)) == []


def test_write_many_raises_the_first_failure(base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    bad = "gs://missing-bucket/x" if base.startswith("gs://") else f"{base}/file/x"
    with pytest.raises(StorageError, match=bad):
        storage.write_many([(f"{base}/ok", b"1"), (bad, b"2")], num_at_once=2)


def test_download_folder(base: str, tmp_path: Path) -> None:
    storage.write_many(
        [(f"{base}/model/{n}", n.encode()) for n in ("config.json", "sub/w.bin")], num_at_once=2
    )
    folder = storage.download_folder(f"{base}/model/", tmp_path / "copy")
    assert (folder / "config.json").read_bytes() == b"config.json"
    assert (folder / "sub/w.bin").read_bytes() == b"sub/w.bin"
    assert len(list(folder.rglob("*"))) == 3


def test_missing_folder_and_file_as_folder(base: str) -> None:
    storage.write_bytes(f"{base}/file", b"")
    with pytest.raises(StorageError, match=r"nothing-here: (no such file or folder|nothing is there)"):
        storage.list_files(f"{base}/nothing-here")
    with pytest.raises(StorageError, match=r"file: is a file"):
        storage.list_files(f"{base}/file")
    with pytest.raises(StorageError, match=r"gone: no such (file|object)"):
        storage.read_bytes(f"{base}/gone")
    with pytest.raises(StorageError, match=r"gone: no such (file|object)"):
        storage.stat(f"{base}/gone")


def test_text_must_be_utf8(base: str) -> None:
    storage.write_bytes(f"{base}/t", b"\xff\xfe")
    with pytest.raises(StorageError, match=r"/t: is not UTF-8 text"):
        storage.read_text(f"{base}/t")
