"""Files on local disks and in Google Cloud Storage (gs://) through one set of functions.

Every failure is a StorageError of one sentence. Requests to Google are tried six times with growing pauses
and give up after CONNECT_S or SILENCE_S seconds without a sign of life, so a dead network fails within about
two minutes. Bytes read from gs:// are compared with the checksum that Google sends along.
"""

import asyncio
import base64
import functools
import itertools
import logging
import os
import re
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from w2v2.config import UserError

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
SILENCE_S = 15.0
_WRITE_S = 130.0
_SLOWEST_BYTES_PER_S = 100_000
_NUM_DOWNLOADS = 4
_PART = re.compile(r"\.[0-9a-f]{32}\.part")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_LOGIN = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the file of a "
    "service account's key"
)

Result = TypeVar("Result")


class StorageError(UserError):
    """A file or bucket that cannot be read, listed or written: one sentence that names its uri."""


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One stored file."""

    uri: str
    """gs:// or an absolute local path."""
    size_bytes: int
    """Its length."""
    fingerprint: str
    """Changes when the content changes: gs:// crc32c and generation, local size and modification time."""


def is_remote(uri: str) -> bool:
    """Whether the uri is in Google Cloud Storage."""
    return uri.startswith("gs://")


def expand(uri: str) -> str:
    """The uri with `~`, file:// and relative local paths made absolute and a gs:// uri's last slashes cut.

    Raises StorageError for other schemes, bucket names that cannot be, and `.` or `..` in a gs:// name.
    """
    scheme, found, _ = uri.partition("://")
    match scheme if found else "":
        case "gs":
            return _normalised(uri)
        case "":
            return os.path.abspath(os.path.expanduser(uri))
        case "file":
            return os.path.abspath(unquote(urlsplit(uri).path))
        case _:
            raise StorageError(f"{uri}: {scheme}:// cannot be read; copy the files to gs:// or a local disk")


def _normalised(uri: str) -> str:
    bucket, name = _split(uri.rstrip("/"))
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(f"{uri}: {bucket!r} cannot be the name of a bucket; write gs://bucket/name")
    if {".", ".."} & set(name.split("/")):
        raise StorageError(f"{uri}: a gs:// name may not hold '.' or '..' between slashes; write it out")
    return f"gs://{bucket}/{name}" if name else f"gs://{bucket}"


def join(uri: str, *parts: str) -> str:
    """The uri of a file below a folder; a part is a relative name such as `a.wav` or `plots/a.png`.

    Raises StorageError for an empty or absolute part and for one with `.`, `..` or an empty name in it.
    """
    for part in parts:
        if {"", ".", ".."} & set(part.split("/")) or "\0" in part:
            raise StorageError(f"{part!r} is not a plain relative name below {uri}; use names without '..'")
    return "/".join([uri.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """Whether there is a file or a folder (gs://: an object, or objects below it).

    Raises StorageError where the bucket is missing or may not be read.
    """
    return _do(_gs_exists, os.path.exists, expand(uri))


def stat(uri: str) -> FileInfo:
    """Size and fingerprint of one file; StorageError where it is missing."""
    return _do(_gs_stat, _local_stat, uri)


def stat_many(uris: Sequence[str], *, num_at_once: int) -> list[FileInfo | StorageError]:
    """What stat finds for each uri, in the order given, num_at_once at a time; errors stand in place."""
    return list(_outcomes(_gs_stat, _local_stat, ((uri,) for uri in uris), num_at_once=num_at_once))


def list_files(uri: str, *, suffixes: tuple[str, ...] = ()) -> list[FileInfo]:
    """All files below a folder, sorted by uri; suffixes such as `.wav` are compared without case.

    Left out: what has a name that starts with a dot, or is in a folder that has. StorageError where the
    folder or the bucket is missing, or uri is a file.
    """
    base = expand(uri)
    endings = tuple(suffix.lower() for suffix in suffixes)
    return [
        info
        for info in _do(_gs_list, _local_list, base)
        if not any(part.startswith(".") for part in info.uri[len(base) :].split("/"))
        and (not endings or info.uri.lower().endswith(endings))
    ]


def read_bytes(uri: str) -> bytes:
    """The content of a file; from gs:// verified against its crc32c, and read again once if it differs."""
    return _do(_gs_read, _local_read, uri)


def read_many(uris: Sequence[str], *, num_at_once: int) -> Iterator[bytes | StorageError]:
    """The content of each file in the order given, or the error of that file.

    num_at_once reads are under way at any time, and no more than one result beyond them is held. Missing
    credentials raise, since no file can be read then.
    """
    return _outcomes(_gs_read, _local_read, ((uri,) for uri in uris), num_at_once=num_at_once)


def read_text(uri: str) -> str:
    """The content of a UTF-8 file."""
    try:
        return read_bytes(uri).decode()
    except UnicodeDecodeError as error:
        raise StorageError(f"{uri}: is not UTF-8 text ({error}); save it as UTF-8") from error


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file whole or not at all; local folders are made, an existing file is replaced."""
    _do(_gs_write, _local_write, uri, data)


def write_many(items: Iterable[tuple[str, bytes]], *, num_at_once: int) -> None:
    """Write (uri, data) pairs, num_at_once at a time; raises the first failure, later ones may be written."""
    for outcome in _outcomes(_gs_write, _local_write, items, num_at_once=num_at_once):
        if isinstance(outcome, StorageError):
            raise outcome


def write_text(uri: str, text: str) -> None:
    """Write a UTF-8 file whole or not at all."""
    write_bytes(uri, text.encode())


def delete(uri: str) -> None:
    """Remove one file; a missing one is fine."""
    _do(_gs_delete, _local_delete, uri)


def download_folder(uri: str, folder: Path) -> Path:
    """The folder, filled with every file below uri under its relative name.

    Raises StorageError, before anything is written, where a name would lead out of the folder.
    """
    base = expand(uri)
    infos = _do(_gs_list, _local_list, base)
    targets = [join(str(folder), info.uri[len(base) + 1 :]) for info in infos]
    contents = read_many([info.uri for info in infos], num_at_once=_NUM_DOWNLOADS)
    for target, content in zip(targets, contents, strict=True):
        if isinstance(content, StorageError):
            raise content
        write_bytes(target, content)
    return folder


# -- one door: a remote coroutine or a local function


def _do(
    remote: Callable[..., Awaitable[Result]], local: Callable[..., Result], uri: str, *args: Any
) -> Result:
    if is_remote(uri):
        return _begin_remote(remote, uri, *args).result()
    return local(uri, *args)


def _begin_remote(remote: Callable[..., Any], uri: str, *args: Any) -> Future:
    fs = _client()
    return asyncio.run_coroutine_threadsafe(remote(fs, uri, *args), fs.loop)


def _outcomes(
    remote: Callable[..., Any], local: Callable[..., Any], calls: Iterable[tuple], *, num_at_once: int
) -> Iterator[Any]:
    """Results or StorageErrors of the calls (uri first), in their order, with num_at_once under way."""
    waiting = iter(calls)
    pending: deque[Future] = deque()
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


def _outcome(future: Future) -> Any:
    try:
        return future.result()
    except StorageError as error:
        return error


# -- local disks


def _local(uri: str) -> Path:
    return Path(expand(uri))


def _local_failure(uri: str, error: OSError) -> StorageError:
    match error:
        case FileNotFoundError():
            return StorageError(f"{uri}: no such file or folder; check the path")
        case PermissionError():
            return StorageError(f"{uri}: permission denied; change its mode or owner, or use another path")
        case IsADirectoryError():
            return StorageError(f"{uri}: is a folder, where a file was wanted; give a file")
        case NotADirectoryError() | FileExistsError():
            return StorageError(
                f"{uri}: is a file or lies below one, where a folder was wanted; give a folder"
            )
        case _:
            return StorageError(f"{uri}: {error.strerror or error}; free the disk or use another path")


def _local_info(path: str) -> FileInfo:
    found = os.stat(path)
    return FileInfo(uri=path, size_bytes=found.st_size, fingerprint=f"{found.st_size}-{found.st_mtime_ns}")


def _local_stat(uri: str) -> FileInfo:
    try:
        path = _local(uri)
        if path.is_dir():
            raise IsADirectoryError
        return _local_info(str(path))
    except OSError as error:
        raise _local_failure(uri, error) from error


def _local_list(uri: str) -> list[FileInfo]:
    def refuse(error: OSError) -> None:
        raise error

    try:
        # Links are followed: corpora are often assembled from links. An unreadable folder is an error.
        walk = os.walk(_local(uri), onerror=refuse, followlinks=True)
        paths = sorted(os.path.join(folder, name) for folder, _, names in walk for name in names)
        # Another process may be writing here, and its parts vanish at any time.
        return [_local_info(path) for path in paths if not _PART.fullmatch(os.path.basename(path))]
    except OSError as error:
        raise _local_failure(error.filename or uri, error) from error


def _local_read(uri: str) -> bytes:
    try:
        return _local(uri).read_bytes()
    except OSError as error:
        raise _local_failure(uri, error) from error


def _local_write(uri: str, data: bytes) -> None:
    path = _local(uri)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _local_failure(uri, error) from error


def _local_delete(uri: str) -> None:
    try:
        _local(uri).unlink(missing_ok=True)
    except OSError as error:
        raise _local_failure(uri, error) from error


# -- Google Cloud Storage


def _split(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def _object(uri: str) -> tuple[str, str]:
    """Bucket and name of an object."""
    bucket, name = _split(uri)
    if not bucket or not name or name.endswith("/"):
        raise StorageError(f"{uri}: names no object; write gs://bucket/name")
    return bucket, name


def _client() -> Any:
    """The gcsfs client of this process; a forked or started worker makes its own."""
    return _client_of(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST", ""))


@functools.lru_cache(maxsize=4)
def _client_of(pid: int, emulator: str) -> Any:
    # gcsfs would ask for the bucket's type over gRPC before each call: two minutes where that is blocked.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import aiohttp
    from gcsfs.core import GCSFileSystem

    # gcsfs logs every failure with its traceback; ours are raised as one sentence.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    return GCSFileSystem(
        token="anon" if emulator else _credentials(),
        use_listings_cache=False,
        skip_instance_cache=True,
        requests_timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
    )


def _credentials() -> Any:
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        return google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])[0]
    except DefaultCredentialsError as error:
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
        where = f"in GOOGLE_APPLICATION_CREDENTIALS={named}" if named else "on this machine"
        raise StorageError(f"gs:// needs Google credentials and none were found {where}: {_LOGIN}") from error


async def _gs_exists(fs: Any, uri: str) -> bool:
    bucket, name = _split(uri)
    work = fs._call("GET", "b/{}/o", bucket, prefix=name or None, maxResults=1, json_out=True)
    first = await _told(fs, uri, "storage.objects.list", work)
    if not name or (first.get("items") and first["items"][0]["name"] in (name, f"{name}/")):
        return True
    work = fs._call("GET", "b/{}/o", bucket, prefix=f"{name}/", maxResults=1, json_out=True)
    return "items" in await _told(fs, uri, "storage.objects.list", work)


async def _gs_stat(fs: Any, uri: str) -> FileInfo:
    work = fs._call("GET", "b/{}/o/{}", *_object(uri), json_out=True)
    return _gs_info(uri, await _told(fs, uri, "storage.objects.get", work))


def _gs_info(uri: str, resource: Mapping[str, Any]) -> FileInfo:
    fingerprint = f"{resource['crc32c']}-{resource['generation']}"
    return FileInfo(uri=uri, size_bytes=int(resource["size"]), fingerprint=fingerprint)


async def _gs_list(fs: Any, uri: str) -> list[FileInfo]:
    bucket, name = _split(uri)
    found = await _told(fs, uri, "storage.objects.list", fs._find(uri, detail=True))
    if uri.removeprefix("gs://") in found:
        raise StorageError(f"{uri}: is a file, where a folder was wanted; give a folder")
    if name and not found:
        raise StorageError(
            f"{uri}: nothing is there: bucket {bucket!r} has no objects below that name; check it"
        )
    # An object whose name ends in a slash is what some tools leave for an empty folder.
    files = {path: info for path, info in found.items() if not path.endswith("/")}
    return [_gs_info(f"gs://{path}", files[path]) for path in sorted(files)]


async def _gs_read(fs: Any, uri: str) -> bytes:
    url = fs.url("/".join(_object(uri)))
    for _ in range(2):
        headers, data = await _told(fs, uri, "storage.objects.get", fs._call("GET", url))
        if _intact(headers, data):
            return data
        logger.warning("%s: the bytes do not match the checksum sent with them", uri)
    raise StorageError(
        f"{uri}: damaged: read twice, and twice the bytes did not match their crc32c; upload it again"
    )


def _intact(headers: Any, data: bytes) -> bool:
    """Whether the data have the crc32c of the headers; stored compressed, it is that of other bytes."""
    import google_crc32c

    if headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return True
    digest = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    return f"crc32c={digest}" in re.split(r"\s*,\s*", ",".join(headers.getall("x-goog-hash", [])))


async def _gs_write(fs: Any, uri: str, data: bytes) -> None:
    from gcsfs.retry import ChecksumError

    path = "/".join(_object(uri))
    limit_s = _WRITE_S + len(data) / _SLOWEST_BYTES_PER_S
    for _ in range(2):
        work = asyncio.wait_for(fs._pipe_file(path, data, consistency="md5"), limit_s)
        try:
            await _told(fs, uri, "storage.objects.create", work)
            return
        except ChecksumError:
            logger.warning("%s: what arrived does not match what was sent", uri)
    raise StorageError(
        f"{uri}: damaged: written twice, and twice the md5 of what arrived was wrong; run it again"
    )


async def _gs_delete(fs: Any, uri: str) -> None:
    async def remove() -> None:
        try:
            await fs._call("DELETE", "b/{}/o/{}", *_object(uri))
        except FileNotFoundError:
            logger.debug("%s: was not there", uri)

    await _told(fs, uri, "storage.objects.delete", remove())


async def _told(fs: Any, uri: str, permission: str, work: Awaitable[Result]) -> Result:
    """What the work returns; its failures as a StorageError."""
    import aiohttp
    from gcsfs.retry import HttpError, NonRetryableError
    from google.auth.exceptions import GoogleAuthError

    try:
        return await work
    except FileNotFoundError as error:
        raise await _missing(fs, uri) from error
    except (OSError, ValueError, HttpError, NonRetryableError, aiohttp.ClientError, GoogleAuthError) as error:
        raise _gs_failure(uri, permission, error) from error


async def _missing(fs: Any, uri: str) -> StorageError:
    """Which of bucket and object is missing: gcsfs drops Google's words for it."""
    bucket, _ = _split(uri)
    try:
        await fs._call("GET", "b/{}/o", bucket, maxResults=1)
    except FileNotFoundError:
        return StorageError(f"{uri}: there is no bucket {bucket!r}; check its name, or create it")
    except OSError:
        logger.debug("bucket %s may not be listed, so it is there", bucket)
    return StorageError(f"{uri}: no such object in bucket {bucket!r}; check its name")


def _gs_failure(uri: str, permission: str, error: Exception) -> StorageError:
    from gcsfs.retry import NonRetryableError, is_retriable
    from google.auth.exceptions import TransportError

    words = " ".join(f"{type(error).__name__} {error}".split())
    if getattr(error, "code", None) == 401 or isinstance(error, NonRetryableError):
        return StorageError(f"{uri}: Google wants a login ({words}): {_LOGIN}")
    if isinstance(error, TimeoutError | TransportError) or is_retriable(error):
        return StorageError(
            f"{uri}: Google Cloud Storage could not be reached or did not answer ({words}); "
            "check the network and run the same command again"
        )
    if str(error).startswith("Forbidden"):
        return _forbidden(uri, permission, words)
    return StorageError(f"{uri}: Google Cloud Storage refused the request ({words}); check the uri")


def _forbidden(uri: str, permission: str, words: str) -> StorageError:
    bucket, _ = _split(uri)
    denied = re.search(r"(\S+) does not have (storage\.[\w.]+)", words)
    who, needed = denied.groups() if denied else ("this account", permission)
    said = "" if denied else f" (Google says: {words})"
    role = "objectViewer" if needed in ("storage.objects.get", "storage.objects.list") else "objectUser"
    return StorageError(
        f"{uri}: {who} lacks {needed} on bucket {bucket!r}{said}; grant it roles/storage.{role}, e.g. gcloud "
        f"storage buckets add-iam-policy-binding gs://{bucket} --member=... --role=roles/storage.{role}"
    )
