"""Objects in Google Cloud Storage, as coroutines on gcsfs's own loop; called through files.py.

Requests are tried six times with growing pauses and give up after CONNECT_S or SILENCE_S seconds without a
sign of life. Every failure is a StorageError.
"""

import asyncio
import base64
import functools
import logging
import os
import re
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from w2v2.json_types import JsonObject
from w2v2.storage.uris import (
    DamagedError,
    FileInfo,
    NotFoundError,
    RefusedError,
    StorageError,
    UnreachableError,
    bucket_and_name,
)

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem
    from google.auth.credentials import Credentials

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
SILENCE_S = 15.0
_WRITE_S = 130.0
_SLOWEST_BYTES_PER_S = 100_000
_LOGIN = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the file of a "
    "service account's key"
)

# Refusals that no permission lifts, by a phrase of Google's error pages, and what to do about each: of most answers
# gcsfs hands on Google's message alone, without the reason's code. What matches none is shown as it is.
_ADVICE = (
    (("retention", "hold", "bucket lock"), "wait until then, or use a bucket without retention policy or hold for what is written"),
    (("billing",), "have the billing account of the bucket's project enabled"),
    (("vpcservicecontrols", "organization's policy"), "run it inside of the VPC service perimeter, or have its owner let this caller in"),
    (("requester pays", "user project", "serviceusage"), "have the bucket's owner switch requester pays off, or copy the files into a bucket of your own"),
    (("quota", "rate limit"), "wait, or have the quota of the project raised"),
    (("disabled", "suspended"), "have the project or account enabled again"),
)  # fmt: skip

_seen_buckets: set[tuple[str, str]] = set()
"""(server, bucket) of the buckets that this process has listed: they exist, so only an object in them can be missing."""

Result = TypeVar("Result")


def _object(uri: str) -> tuple[str, str]:
    """Bucket and name of an object."""
    bucket, name = bucket_and_name(uri)
    if not bucket or not name or name.endswith("/"):
        raise RefusedError(f"{uri}: names no object; write gs://bucket/name")
    return bucket, name


def client() -> "GCSFileSystem":
    """The gcsfs client of this process; a forked or spawned worker makes its own."""
    return client_of(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST", ""))


@functools.lru_cache(maxsize=4)
def client_of(pid: int, emulator: str) -> "GCSFileSystem":
    """The client of the process `pid`, cached by its arguments. Raises RefusedError where this machine has no credentials."""
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


def _credentials() -> "Credentials":
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        return google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])[0]
    except DefaultCredentialsError as error:
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
        where = f"in GOOGLE_APPLICATION_CREDENTIALS={named}" if named else "on this machine"
        raise RefusedError(f"gs:// needs Google credentials and none were found {where}: {_LOGIN}") from error


async def exists(fs: "GCSFileSystem", uri: str) -> bool:
    """Whether there is an object, or objects below that name."""
    _, name = bucket_and_name(uri)
    first = await listed(fs, uri, {"prefix": name}, num=1)
    if not name or (first.get("items") and first["items"][0]["name"] in (name, f"{name}/")):
        return True
    return "items" in await listed(fs, uri, {"prefix": f"{name}/"}, num=1)


async def listed(fs: "GCSFileSystem", uri: str, query: Mapping[str, str], *, num: int = 1000) -> JsonObject:
    """Google's answer: up to num objects of the uri's bucket. query has parameters of Google's listings; empty ones are left out."""
    bucket, _ = bucket_and_name(uri)
    given = {name: value for name, value in query.items() if value}
    work = fs._call("GET", "b/{}/o", bucket, maxResults=num, json_out=True, **given)
    return await answer(fs, uri, "storage.objects.list", work)


async def stat(fs: "GCSFileSystem", uri: str) -> FileInfo:
    """Size and fingerprint of one object. Raises StorageError where it is missing or may not be read."""
    work = fs._call("GET", "b/{}/o/{}", *_object(uri), json_out=True)
    return _info(uri, await answer(fs, uri, "storage.objects.get", work))


def _info(uri: str, resource: JsonObject) -> FileInfo:
    fingerprint = f"{resource['crc32c']}-{resource['generation']}"
    return FileInfo(uri=uri, size_bytes=int(resource["size"]), fingerprint=fingerprint)


async def read(fs: "GCSFileSystem", uri: str) -> bytes:
    """The content of an object, verified against its crc32c.

    Raises DamagedError where the content differs from its crc32c twice.
    """
    url = fs.url("/".join(_object(uri)))
    for _ in range(2):
        headers, data = await answer(fs, uri, "storage.objects.get", fs._call("GET", url))
        if _intact(headers, data):
            return data
        logger.warning("%s: the bytes do not match the checksum sent with them", uri)
    raise DamagedError(
        f"{uri}: damaged: read twice, and twice the bytes did not match their crc32c; upload it again"
    )


def _intact(headers: Mapping[str, str], data: bytes) -> bool:
    """Whether the data match the crc32c in the headers; a file stored compressed has the crc32c of its compressed bytes."""
    import google_crc32c

    if headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return True
    digest = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    # Google sends that header twice, which a look-up by name would not see.
    hashes = ",".join(value for name, value in headers.items() if name.lower() == "x-goog-hash")
    return f"crc32c={digest}" in re.split(r"\s*,\s*", hashes)


async def write(fs: "GCSFileSystem", uri: str, data: bytes) -> None:
    """Write an object whole or not at all. Raises DamagedError where other bytes arrive twice, by their md5."""
    from gcsfs.retry import ChecksumError

    path = "/".join(_object(uri))
    limit_s = _WRITE_S + len(data) / _SLOWEST_BYTES_PER_S
    for _ in range(2):
        work = asyncio.wait_for(fs._pipe_file(path, data, consistency="md5"), limit_s)
        try:
            await answer(fs, uri, "storage.objects.create", work)
            return
        except ChecksumError:
            logger.warning("%s: the bytes that arrived differ from the bytes that were sent", uri)
    raise DamagedError(
        f"{uri}: damaged: written twice, and twice other bytes arrived, by their md5; run it again"
    )


async def create(fs: "GCSFileSystem", uri: str, data: bytes) -> bool:
    """Whether the object now has this content; it is written whole, and only where there is none."""

    async def put() -> bool:
        try:
            await fs._pipe_file(uri, data, mode="create")
            return True
        except FileExistsError:
            # Perhaps by ourselves: the answer to a first try may have been lost.
            return await read(fs, uri) == data

    return await answer(fs, uri, "storage.objects.create", put())


async def read_version(fs: "GCSFileSystem", uri: str) -> tuple[bytes, int]:
    """The content of an object, and its generation. Raises StorageError where it is missing or may not be read."""
    url = fs.url("/".join(_object(uri)))
    headers, data = await answer(fs, uri, "storage.objects.get", fs._call("GET", url))
    return data, int(headers["x-goog-generation"])


async def write_version(fs: "GCSFileSystem", uri: str, data: bytes, generation: int) -> int | None:
    """Write an object if its generation is `generation` (0: there is no object), and return its new generation.

    None, and nothing is written, where it has another one. Raises StorageError where it may not be written.
    """
    bucket, name = _object(uri)

    async def put() -> int | None:
        try:
            resource = await fs._call(
                "POST",
                f"{fs._location}/upload/storage/v1/b/{{}}/o",
                bucket,
                uploadType="media",
                name=name,
                ifGenerationMatch=str(generation),
                headers={"Content-Type": "application/octet-stream"},
                data=data,
                json_out=True,
            )
            return int(resource["generation"])
        except FileExistsError:
            # Perhaps by ourselves: the answer to a first try may have been lost.
            try:
                body, current = await read_version(fs, uri)
            except NotFoundError:
                return None
            return current if body == data else None

    return await answer(fs, uri, "storage.objects.create", put())


async def delete_version(fs: "GCSFileSystem", uri: str, generation: int) -> None:
    """Remove an object if this is its generation. Raises StorageError where it may not be removed."""

    async def remove() -> None:
        try:
            await fs._call("DELETE", "b/{}/o/{}", *_object(uri), ifGenerationMatch=str(generation))
        except (FileNotFoundError, FileExistsError):
            logger.debug("%s: not there in generation %d", uri, generation)

    await answer(fs, uri, "storage.objects.delete", remove())


async def delete(fs: "GCSFileSystem", uri: str) -> None:
    """Remove one object; a missing one is fine. Raises StorageError where it may not be removed."""

    async def remove() -> None:
        try:
            await fs._call("DELETE", "b/{}/o/{}", *_object(uri))
        except FileNotFoundError:
            logger.debug("%s: was not there", uri)

    await answer(fs, uri, "storage.objects.delete", remove())


async def answer(fs: "GCSFileSystem", uri: str, permission: str, work: Awaitable[Result]) -> Result:
    """The result of a call of gcsfs. Raises StorageError where the call fails."""
    import aiohttp
    from gcsfs.retry import HttpError, NonRetryableError
    from google.auth.exceptions import GoogleAuthError

    try:
        return await work
    except StorageError:  # of a step within
        raise
    except FileNotFoundError as error:
        raise await _missing(fs, uri) from error
    except (OSError, ValueError, HttpError, NonRetryableError, aiohttp.ClientError, GoogleAuthError) as error:
        raise _failure(uri, permission, error) from error


async def _missing(fs: "GCSFileSystem", uri: str) -> StorageError:
    """The error that says whether the bucket or the object is missing, as gcsfs drops Google's message."""
    import aiohttp
    from gcsfs.retry import HttpError

    bucket, _ = bucket_and_name(uri)
    place = (os.environ.get("STORAGE_EMULATOR_HOST", ""), bucket)
    if place in _seen_buckets:  # of many missing objects, one asks for the bucket
        return NotFoundError(f"{uri}: no such object in bucket {bucket!r}; check its name")
    try:
        await fs._call("GET", "b/{}/o", bucket, maxResults=1)
        _seen_buckets.add(place)
    except FileNotFoundError:
        return NotFoundError(f"{uri}: there is no bucket {bucket!r}; check its name, or create it")
    except (OSError, ValueError, HttpError, aiohttp.ClientError):
        logger.debug("bucket %s cannot be listed: so whether the bucket exists is unknown", bucket)
    return NotFoundError(f"{uri}: no such object in bucket {bucket!r}; check its name")


def _failure(uri: str, permission: str, error: Exception) -> StorageError:
    from gcsfs.retry import NonRetryableError, is_retriable
    from google.auth.exceptions import TransportError

    words = " ".join(f"{type(error).__name__} {error}".split())
    if getattr(error, "code", None) == 401 or isinstance(error, NonRetryableError):
        return RefusedError(f"{uri}: Google wants a login ({words}): {_LOGIN}")
    if isinstance(error, TimeoutError | TransportError) or is_retriable(error):
        return UnreachableError(
            f"{uri}: Google Cloud Storage could not be reached or did not answer ({words}); "
            "check the network and run the same command again"
        )
    if type(error) is OSError and str(error).startswith("Forbidden"):  # gcsfs keeps no status of a 403
        return _forbidden(uri, permission, words)
    return RefusedError(f"{uri}: Google Cloud Storage refused the request ({words}); {_advice(words, uri)}")


def _forbidden(uri: str, permission: str, words: str) -> RefusedError:
    """The error for a 403: the permission to grant if Google names one, else Google's message and what to do."""
    bucket, _ = bucket_and_name(uri)
    denied = re.search(r"(\S+) does not have (storage\.[\w.]+)", words)
    if denied:
        who, needed = denied.groups()
        role = "objectViewer" if needed in ("storage.objects.get", "storage.objects.list") else "objectUser"
        return RefusedError(
            f"{uri}: {who} lacks {needed} on bucket {bucket!r}; grant it roles/storage.{role}, e.g. gcloud "
            f"storage buckets add-iam-policy-binding gs://{bucket} --member=... --role=roles/storage.{role}"
        )
    reason = re.sub(r"^OSError Forbidden: \S+ ?", "", words) or "no reason"
    return RefusedError(
        f"{uri}: Google Cloud Storage forbids {permission} on bucket {bucket!r} ({reason}); {_advice(words, uri)}"
    )


def _advice(words: str, uri: str) -> str:
    """What the user can do about a refusal with this message of Google's; names of files in the message are left out first."""
    for name in sorted(bucket_and_name(uri), key=len, reverse=True):
        for written in filter(None, (name, quote(name), quote(name, safe=""))):
            words = words.replace(written, "")
    lower = words.lower()
    for marks, todo in _ADVICE:
        if any(mark in lower for mark in marks):
            return todo
    return "check the uri and Google's message"
