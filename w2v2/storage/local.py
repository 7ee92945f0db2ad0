"""Files on local disks; storage.py is the door to them. Every failure is a StorageError."""

import errno
import os
import re
import uuid
from pathlib import Path

from w2v2.storage.uris import (
    FileInfo,
    NotFoundError,
    RefusedError,
    StorageError,
    UnreachableError,
    expand,
)

# A disk or share that does not answer, or a process that may not open more: nothing follows about the file.
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
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PART = re.compile(r"\.[0-9a-f]{32}\.part")


def _path(uri: str) -> Path:
    return Path(expand(uri))


def failure(uri: str, error: OSError) -> StorageError:
    """The error of a kind that says what failed on a path."""
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
            return RefusedError(
                f"{uri}: {words}; free the disk and run the same command again, or use another path"
            )
        case _:
            return RefusedError(f"{uri}: {words}; use another path")


def _info(path: str) -> FileInfo:
    found = os.stat(path)
    return FileInfo(uri=path, size_bytes=found.st_size, fingerprint=f"{found.st_size}-{found.st_mtime_ns}")


def exists(uri: str) -> bool:
    """Whether there is a file or folder."""
    try:
        os.stat(_path(uri))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise failure(uri, error) from error
    return True


def stat(uri: str) -> FileInfo:
    """Size and fingerprint of one file."""
    try:
        path = _path(uri)
        if path.is_dir():
            raise IsADirectoryError
        return _info(str(path))
    except OSError as error:
        raise failure(uri, error) from error


def list_files(uri: str) -> list[FileInfo]:
    """All files below a folder, sorted."""

    def refuse(error: OSError) -> None:
        raise error

    try:
        # Links are followed: corpora are often assembled from links. An unreadable folder is an error.
        walk = os.walk(_path(uri), onerror=refuse, followlinks=True)
        paths = sorted(os.path.join(folder, name) for folder, _, names in walk for name in names)
        # Another process may be writing here, and its parts vanish at any time.
        return [_info(path) for path in paths if not _PART.fullmatch(os.path.basename(path))]
    except OSError as error:
        raise failure(error.filename or uri, error) from error


def read(uri: str) -> bytes:
    """The content of a file."""
    try:
        return _path(uri).read_bytes()
    except OSError as error:
        raise failure(uri, error) from error


def write(uri: str, data: bytes) -> None:
    """Write a file whole or not at all; folders are made."""
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
    """Whether the file now has this content; it is written whole, and only where there is none."""
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
    """Remove one file; a missing one is fine."""
    try:
        _path(uri).unlink(missing_ok=True)
    except OSError as error:
        raise failure(uri, error) from error
