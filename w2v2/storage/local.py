"""Files on local disks; called through files.py. Every failure is a StorageError."""

import errno
import os
import re
import stat as stat_modes
import uuid
from collections.abc import Iterator
from pathlib import Path

from w2v2.storage.uris import (
    FileInfo,
    FullError,
    NotFoundError,
    RefusedError,
    StorageError,
    UnreachableError,
    expand,
)

# A disk or share that does not answer, or too many open files: the file itself may be fine.
_NO_ANSWER = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EREMOTEIO,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}
UNKNOWN = "unknown"
"""The fingerprint of a file that cannot be looked up."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PART = re.compile(r"\.[0-9a-f]{32}\.part")


def _path(uri: str) -> Path:
    return Path(expand(uri))


def failure(uri: str, error: OSError) -> StorageError:
    """The StorageError for an OSError on a path."""
    words = error.strerror or str(error)
    match error:
        case FileNotFoundError():
            return NotFoundError(f"{uri}: no such file or folder; check the path")
        case PermissionError():
            return RefusedError(f"{uri}: permission denied; change its mode or owner, or use another path")
        case IsADirectoryError():
            return RefusedError(f"{uri}: is a folder, where a file was wanted; give a file")
        case NotADirectoryError() | FileExistsError():
            return RefusedError(
                f"{uri}: is a file or lies below one, where a folder was wanted; give a folder"
            )
        case OSError(errno=number) if number in _NO_ANSWER:
            return UnreachableError(
                f"{uri}: the disk or share does not answer ({words}); check it and run the same command again"
            )
        case OSError(errno=number) if number in _FULL:
            return FullError(
                f"{uri}: {words}; free the disk and run the same command again, or use another path"
            )
        case OSError(errno=errno.EROFS):
            return FullError(f"{uri}: {words}; use another path")
        case _:
            return RefusedError(f"{uri}: {words}; use another path")


def _info(path: str) -> FileInfo:
    status = os.stat(path)
    return FileInfo(uri=path, size_bytes=status.st_size, fingerprint=f"{status.st_size}-{status.st_mtime_ns}")


def exists(uri: str) -> bool:
    """Whether there is a file or folder. Raises StorageError where the disk does not say, as in a folder that may not be read."""
    try:
        os.stat(_path(uri))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise failure(uri, error) from error
    return True


def stat(uri: str) -> FileInfo:
    """Size and fingerprint of one file. Raises StorageError where it is missing or no regular file."""
    try:
        path = str(_path(uri))
        _refuse_irregular(uri, os.stat(path))
        return _info(path)
    except OSError as error:
        raise failure(uri, error) from error


def list_files(uri: str) -> list[FileInfo]:
    """All files below a folder, sorted; a file that cannot be looked up has size 0, and fails when it is read."""
    return list(iterate_files(uri))


def iterate_files(uri: str) -> Iterator[FileInfo]:
    """The files of list_files in their order; only the names in the folders above one are in memory.

    Raises StorageError where a folder cannot be listed.
    """
    try:
        for path in _walk(str(_path(uri))):
            # Another process may be writing here, and its parts vanish at any time.
            if not _PART.fullmatch(os.path.basename(path)):
                yield _listed(path)
    except OSError as error:
        raise failure(error.filename or uri, error) from error


def _walk(folder: str) -> Iterator[str]:
    """The files below a folder, sorted. Links are followed, as corpora are assembled from links, except to a parent folder."""
    with os.scandir(folder) as entries:
        # In the order of whole paths: a folder's has a slash behind its name.
        names = sorted(f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries)
    for name in names:
        path = os.path.join(folder, name)
        if not name.endswith("/"):
            yield path
        elif not _is_link_to_parent(path[:-1]):
            yield from _walk(path[:-1])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _is_link_to_parent(folder: str) -> bool:
    """Whether it is a link to a folder that it is in."""
    if not os.path.islink(folder):
        return False
    parent = os.path.realpath(os.path.dirname(folder))
    return f"{parent}/".startswith(f"{os.path.realpath(folder)}/")


def _listed(path: str) -> FileInfo:
    try:
        _refuse_irregular(path, os.stat(path))
        return _info(path)
    except (OSError, RefusedError):  # a link that leads nowhere, a pipe
        return FileInfo(uri=path, size_bytes=0, fingerprint=UNKNOWN)


def read(uri: str) -> bytes:
    """The content of a regular file.

    Raises StorageError where it cannot be read, and for pipes and devices, which may have no end.
    """
    try:
        path = _path(uri)
        _refuse_irregular(uri, os.stat(path))  # a pipe that nobody writes to would be waited for
        return path.read_bytes()
    except OSError as error:
        raise failure(uri, error) from error


def _refuse_irregular(uri: str, status: os.stat_result) -> None:
    if stat_modes.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat_modes.S_ISREG(status.st_mode):
        raise RefusedError(f"{uri}: is a device, pipe or socket; give a regular file")


def write(uri: str, data: bytes) -> None:
    """Write a file whole or not at all; folders are made. Raises StorageError where it cannot be written."""
    path = _path(uri)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise failure(uri, error) from error


def create(uri: str, data: bytes) -> bool:
    """Whether the file has this content now: it is written whole, and only if no file has this name.

    Raises StorageError where it cannot be written.
    """
    part = os.path.join(os.path.dirname(uri), f".{uuid.uuid4().hex}.part")
    write(part, data)
    try:
        # A link, unlike a rename, fails where the name is taken.
        os.link(part, uri)
        return True
    except FileExistsError:
        return read(uri) == data
    except OSError as error:
        raise failure(uri, error) from error
    finally:
        Path(part).unlink(missing_ok=True)


def delete(uri: str) -> None:
    """Remove one file; a missing one is fine. Raises StorageError where it cannot be removed."""
    try:
        _path(uri).unlink(missing_ok=True)
    except OSError as error:
        raise failure(uri, error) from error
