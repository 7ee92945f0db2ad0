"""Addresses of files."""

import os
from pathlib import Path

import pytest

from w2v2.storage import files as storage
from w2v2.storage.files import RefusedError, StorageError


def test_join() -> None:
    assert storage.join("gs://b/run/", "plots", "a/b.png") == "gs://b/run/plots/a/b.png"
    for part in ("..", "a/../b", "/etc", "", "a//b", "./a", "a/", "a\0b"):
        with pytest.raises(StorageError, match="not a plain relative name below gs://b"):
            storage.join("gs://b", "ok", part)


def test_expand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert storage.expand("runs/a") == str(tmp_path / "runs/a")
    assert storage.expand("./gs:x/12:30.wav") == os.path.abspath("gs:x/12:30.wav")
    assert storage.expand("~/x") == "/home/someone/x"
    assert storage.expand("file:///tmp/a%20b") == "/tmp/a b"
    assert storage.expand("gs://bucket/a/b//") == "gs://bucket/a/b"
    assert storage.expand("gs://bucket/") == "gs://bucket"
    for uri, message in [
        ("s3://bucket/x", "s3:// cannot be read; copy the files to gs://"),
        ("gs:/bucket/x", r"write gs://bucket/x for that, or \./gs:/bucket/x for a local file"),
        ("gs:bucket/x", r"write gs://bucket/x for that, or \./gs:bucket/x for a local file"),
        ("gs://Bad_Bucket!/x", "'Bad_Bucket!' cannot be the name of a bucket"),
        ("", r"'' is no name of a file or folder: write one, or \."),
        (" ", "' ' is no name of a file or folder"),
        ("gs:///x", "'' cannot be the name of a bucket"),
        ("gs://bucket/a/../b", r"may not hold '\.' or '\.\.'"),
    ]:
        with pytest.raises(StorageError, match=message):
            storage.expand(uri)
    with pytest.raises(StorageError, match="https:// cannot be read"):
        storage.read_bytes("https://host/x")
    assert storage.is_remote("gs://b") and not storage.is_remote("/gs:/b")


@pytest.mark.parametrize("uri", ["gs://", "gs:///"])
def test_a_bucket_without_a_name_is_refused_wherever_it_is_used(uri: str) -> None:
    for act in (storage.list_files, storage.exists, lambda uri: storage.join(uri, "config.json")):
        with pytest.raises(RefusedError, match=f"^{uri}: names no bucket; write gs://bucket/name$"):
            act(uri)
