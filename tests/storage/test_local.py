"""Local files."""

import errno
import os
from pathlib import Path

import pytest

from w2v2.storage import files as storage
from w2v2.storage.files import NotFoundError, RefusedError, StorageError, UnreachableError


def test_local_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match="folder: is a folder"):
        storage.write_bytes(str(target), b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_local_errors_name_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="is a folder, where a file was wanted"):
        storage.stat(str(tmp_path))
    with pytest.raises(StorageError, match="is a folder, where a file was wanted"):
        storage.delete(str(tmp_path))
    with pytest.raises(StorageError, match="lies below one, where a folder was wanted"):
        storage.write_bytes(f"{tmp_path}/file/x", b"")
    with pytest.raises(StorageError, match="File name too long; use another path"):
        storage.read_bytes(f"{tmp_path}/{'x' * 300}")


def test_unfinished_parts_of_other_writers_are_not_listed(tmp_path: Path) -> None:
    # A link to nowhere is like a part that was renamed between the listing and the look at its size.
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


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
def test_a_share_that_does_not_answer_is_no_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "x").write_bytes(b"data")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)
    monkeypatch.setattr("os.stat", fail)
    for act in (
        storage.exists,
        storage.read_bytes,
        lambda uri: list(storage.read_many([uri], num_at_once=1)),
    ):
        with pytest.raises(UnreachableError, match="x: the disk or share does not answer"):
            act(f"{tmp_path}/x")


def test_kinds_of_local_failures(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for act in (storage.read_bytes, storage.stat, storage.list_files):
        with pytest.raises(NotFoundError):
            act(f"{tmp_path}/none")
    assert not storage.exists(f"{tmp_path}/none") and not storage.exists(f"{tmp_path}/file/x")
    for act in (storage.read_bytes, storage.stat):
        with pytest.raises(RefusedError):
            act(str(tmp_path))


def test_a_full_disk_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        RefusedError, match=r"x: No space left on device; free the disk and run the same command"
    ):
        storage.write_bytes(f"{tmp_path}/x", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_nowhere_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"a")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    uris = [info.uri for info in storage.list_files(str(tmp_path))]
    assert uris == [f"{tmp_path}/a.wav", f"{tmp_path}/gone.wav"]
    good, bad = storage.read_many(uris, num_at_once=2)
    assert good == b"a" and isinstance(bad, NotFoundError)


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    for name in ("pipe.wav", "zero.wav"):
        for act in (storage.read_bytes, storage.stat):
            with pytest.raises(
                RefusedError, match=f"{name}: is a device, pipe or socket; give a regular file"
            ):
                act(f"{tmp_path}/{name}")
