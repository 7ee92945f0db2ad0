"""Files on local disks and in Google Cloud Storage (gs://) through one set of functions.

Every failure is a StorageError of one sentence, of a kind: NotFoundError, RefusedError, UnreachableError or
DamagedError. Requests to Google are tried six times with growing pauses
and give up after CONNECT_S or SILENCE_S seconds without a sign of life, so a dead network fails within about
two minutes. Bytes read from gs:// are compared with the checksum that Google sends along.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from w2v2.storage import gcs, listing
from w2v2.storage import local as local_files
from w2v2.storage.uris import (
    DamagedError,
    FileInfo,
    NotFoundError,
    RefusedError,
    StorageError,
    UnreachableError,
    expand,
    is_remote,
    join,
)

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem

__all__ = [
    "DamagedError",
    "FileInfo",
    "NotFoundError",
    "RefusedError",
    "StorageError",
    "UnreachableError",
    "expand",
    "is_remote",
    "join",
]

_NUM_DOWNLOADS = 4

P = ParamSpec("P")
Result = TypeVar("Result")


def exists(uri: str) -> bool:
    """Whether there is a file or a folder (gs://: an object, or objects below it).

    Raises StorageError where the bucket is missing, may not be read or does not answer: False means no.
    """
    return _do(gcs.exists, local_files.exists, expand(uri))


def stat(uri: str) -> FileInfo:
    """Size and fingerprint of one file; StorageError where it is missing."""
    return _do(gcs.stat, local_files.stat, uri)


def stat_many(uris: Sequence[str], *, num_at_once: int) -> list[FileInfo | StorageError]:
    """The result of stat for each uri, in their order, or its error; num_at_once calls run at a time.

    Raises UnreachableError, after which nothing is known about any file.
    """
    return list(_outcomes(gcs.stat, local_files.stat, ((uri,) for uri in uris), num_at_once=num_at_once))


def list_files(uri: str, *, suffixes: tuple[str, ...] = (), hidden: bool = False) -> list[FileInfo]:
    """All files below a folder, sorted by uri; suffixes such as `.wav` are compared without case.

    Files whose name, or a folder's name in their path, starts with a dot are left out unless hidden is set. Raises
    StorageError where the folder or the bucket is missing, or uri is a file.
    """
    base = expand(uri)
    endings = tuple(suffix.lower() for suffix in suffixes)
    return [
        info
        for info in listing.files_below(base)
        if (hidden or not is_hidden(info.uri, base)) and (not endings or info.uri.lower().endswith(endings))
    ]


def is_hidden(uri: str, base: str) -> bool:
    """Whether a name below base starts with a dot."""
    return any(part.startswith(".") for part in uri[len(base) :].split("/"))


def read_bytes(uri: str) -> bytes:
    """The content of a file; from gs:// it is checked against its crc32c, and read again once if that differs.

    Raises StorageError: NotFoundError, RefusedError, UnreachableError, or DamagedError if the crc32c differs again.
    """
    return _do(gcs.read, local_files.read, uri)


def read_many(uris: Sequence[str], *, num_at_once: int) -> Iterator[bytes | StorageError]:
    """The content of each file in the order given, or the error of that file.

    num_at_once reads run at any time, and at most one more result is held in memory. UnreachableError and missing
    credentials are raised and not returned, so that no file is taken for missing or damaged because of them.
    """
    return _outcomes(gcs.read, local_files.read, ((uri,) for uri in uris), num_at_once=num_at_once)


def read_text(uri: str) -> str:
    """The content of a UTF-8 file. Raises StorageError, DamagedError for content that is not UTF-8."""
    try:
        return read_bytes(uri).decode()
    except UnicodeDecodeError as error:
        raise DamagedError(f"{uri}: is not UTF-8 text ({error}); save it as UTF-8") from error


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file whole or not at all; local folders are made, an existing file is replaced. Raises StorageError."""
    _do(gcs.write, local_files.write, uri, data)


def create(uri: str, data: bytes) -> bool:
    """Whether the file has this content now: it is written whole, and only if no file has this name. Raises StorageError."""
    return _do(gcs.create, local_files.create, uri, data)


def read_version(uri: str) -> tuple[bytes, int]:
    """The content of a gs:// object and its generation, which every write changes. Raises StorageError."""
    return _begin_remote(gcs.read_version, uri).result()


def write_version(uri: str, data: bytes, generation: int) -> int | None:
    """The new generation of a gs:// object; None, with nothing written, if its live generation is not the given one.

    Generation 0 means that there is no object. Of several writers that read the same generation, one succeeds.
    """
    return _begin_remote(gcs.write_version, uri, data, generation).result()


def delete_version(uri: str, generation: int) -> None:
    """Remove a gs:// object if this is its generation. Raises StorageError."""
    _begin_remote(gcs.delete_version, uri, generation).result()


def write_many(items: Iterable[tuple[str, bytes]], *, num_at_once: int) -> None:
    """Write (uri, data) pairs, num_at_once at a time. Raises the first StorageError; later pairs may be written."""
    for outcome in _outcomes(gcs.write, local_files.write, items, num_at_once=num_at_once):
        if isinstance(outcome, StorageError):
            raise outcome


def write_text(uri: str, text: str) -> None:
    """Write a UTF-8 file whole or not at all. Raises StorageError."""
    write_bytes(uri, text.encode())


def delete(uri: str) -> None:
    """Remove one file; a missing one is fine. Raises StorageError."""
    _do(gcs.delete, local_files.delete, uri)


def download_folder(uri: str, folder: Path) -> Path:
    """The folder, filled with every file below uri under its relative name.

    Raises StorageError, before anything is written, where a name would lead out of the folder.
    """
    base = expand(uri)
    infos = listing.files_below(base)
    targets = [join(str(folder), info.uri[len(base) + 1 :]) for info in infos]
    contents = read_many([info.uri for info in infos], num_at_once=_NUM_DOWNLOADS)
    for target, content in zip(targets, contents, strict=True):
        if isinstance(content, StorageError):
            raise content
        write_bytes(target, content)
    return folder


# -- dispatch: a coroutine for gs://, a function for local files


def _do(
    remote: Callable[Concatenate["GCSFileSystem", str, P], Coroutine[None, None, Result]],
    local: Callable[Concatenate[str, P], Result],
    uri: str,
    *args: P.args,
    **settings: P.kwargs,
) -> Result:
    if is_remote(uri):
        return _begin_remote(remote, uri, *args, **settings).result()
    return local(uri, *args, **settings)


def _begin_remote(
    remote: Callable[Concatenate["GCSFileSystem", str, P], Coroutine[None, None, Result]],
    uri: str,
    *args: P.args,
    **settings: P.kwargs,
) -> Future[Result]:
    fs = gcs.client()
    return asyncio.run_coroutine_threadsafe(remote(fs, uri, *args, **settings), fs.loop)


def _outcomes(
    remote: Callable[..., Coroutine[None, None, Result]],
    local: Callable[..., Result],
    calls: Iterable[tuple],
    *,
    num_at_once: int,
) -> Iterator[Result | StorageError]:
    """Results or StorageErrors of the calls (uri first), in their order, with num_at_once under way.

    Raises UnreachableError.
    """
    waiting = iter(calls)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_at_once) as pool:

        def refill(count: int) -> None:
            for call in itertools.islice(waiting, count):
                begun = _begin_remote(remote, *call) if is_remote(call[0]) else pool.submit(local, *call)
                pending.append(begun)

        try:
            refill(num_at_once)
            while pending:
                outcome = _outcome(pending.popleft())
                refill(1)
                yield outcome
        finally:
            for future in pending:
                future.cancel()


def _outcome(future: Future[Result]) -> Result | StorageError:
    try:
        return future.result()
    except UnreachableError:
        raise
    except StorageError as error:
        return error
