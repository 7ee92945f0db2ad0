"""Local files."""

import os
from pathlib import Path

import pytest

from w2v2.storage import files as storage
from w2v2.storage.files import StorageError


def test_local_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match="folder: is a folder"):
        storage.write_bytes(str(target), b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_local_errors_name_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="is a folder, where a file was wanted"):
        storage.stat(str(tmp_path))
    with pytest.raises(StorageError, match="is a folder, where a file was wanted"):
        storage.delete(str(tmp_path))
    with pytest.raises(StorageError, match="lies below one, where a folder was wanted"):
        storage.write_bytes(f"{tmp_path}/file/x", b"")
    with pytest.raises(StorageError, match="link: no such file"):
        storage.list_files(str(tmp_path))
    with pytest.raises(StorageError, match="File name too long; free the disk or use another path"):
        storage.read_bytes(f"{tmp_path}/{'x' * 300}")


def test_unfinished_parts_of_other_writers_are_not_listed(tmp_path: Path) -> None:
    # A link to nowhere stands for a part that was renamed between the listing and the look at its size.
    (tmp_path / f".{'0f' * 16}.part").symlink_to(tmp_path / "nowhere")
    storage.write_bytes(f"{tmp_path}/whole", b"")
    assert [info.uri for info in storage.list_files(str(tmp_path))] == [f"{tmp_path}/whole"]


def test_local_links_to_folders_are_followed(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/real/a.wav", b"")
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "actor").symlink_to(tmp_path / "real")
    assert [info.uri for info in storage.list_files(f"{tmp_path}/view")] == [f"{tmp_path}/view/actor/a.wav"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_local_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(StorageError, match="locked: permission denied"):
        storage.list_files(str(tmp_path))
