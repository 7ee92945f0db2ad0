"""Names of files, local and gs://, and the errors raised where a file cannot be read or written."""

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from w2v2.errors import Reject, ResumableError, UserError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class StorageError(UserError):
    """Raised for a file or bucket that cannot be read, listed or written: one sentence that names its uri.

    Each subclass tells callers what they may conclude: only NotFoundError means that there is no such file.
    """

    reject_kind = "not read"

    @property
    def reject(self) -> Reject:
        """Why the clip whose file this is cannot be used."""
        return Reject(kind=self.reject_kind, detail=str(self))


class NotFoundError(StorageError):
    """There is no such file, folder or bucket: the storage answered, and the name is not in it."""

    reject_kind = "missing"


class RefusedError(StorageError):
    """The storage answered with a refusal: no permission, no space, a folder in place of a file, an invalid name."""

    reject_kind = "not readable"


class FullError(RefusedError, ResumableError):
    """The disk has no room for a file, or is read-only."""


class UnreachableError(StorageError):
    """No answer: network, service, disk or share failed. The file may exist or not; try again later."""


class DamagedError(StorageError):
    """The content does not match its checksum, even when read again, or is not text where text is wanted."""

    reject_kind = "damaged"


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One stored file."""

    uri: str
    """gs:// or an absolute local path."""
    size_bytes: int
    """Length of its content."""
    fingerprint: str
    """Changes when the content changes: gs:// crc32c and generation, local size and modification time."""


def is_remote(uri: str) -> bool:
    """Whether the uri is in Google Cloud Storage."""
    return uri.startswith("gs://")


def expand(uri: str) -> str:
    """The absolute uri: `~`, file:// and relative local paths are resolved, a gs:// uri loses its last slashes.

    Raises RefusedError for other schemes, mistyped ones (gs:/bucket), invalid bucket names, and `.` or `..` in a
    gs:// name.

    >>> expand("gs://bucket/folder/")
    'gs://bucket/folder'
    """
    if "\0" in uri:
        raise RefusedError(f"{uri!r}: no file can have a NUL character in its name; write the name out")
    if not uri.strip():
        raise RefusedError(
            f"{uri!r} is no name of a file or folder: write one, or . for the folder where you are"
        )
    scheme, separator, _ = uri.partition("://")
    match scheme if separator else "":
        case "gs":
            return _normalised(uri)
        case "" if match := _SCHEME.match(uri):
            raise RefusedError(
                f"{uri}: begins like the name of a service; write {match[0]}//{uri[match.end() :].lstrip('/')} for that, "
                f"or ./{uri} for a local file"
            )
        case "":
            return os.path.abspath(os.path.expanduser(uri))
        case "file":
            try:
                return os.path.abspath(unquote(urlsplit(uri).path))
            except ValueError as error:
                raise RefusedError(
                    f"{uri}: is no file:// uri ({error}); write file:///folder/name"
                ) from error
        case _:
            raise RefusedError(f"{uri}: {scheme}:// cannot be read; copy the files to gs:// or a local disk")


def _refuse_no_bucket(uri: str) -> None:
    if uri.startswith("gs://") and not uri.removeprefix("gs://").strip("/"):
        raise RefusedError(f"{uri}: names no bucket; write gs://bucket/name")


def _normalised(uri: str) -> str:
    _refuse_no_bucket(uri)
    bucket, name = bucket_and_name(uri.rstrip("/"))
    if not _BUCKET.fullmatch(bucket):
        raise RefusedError(f"{uri}: {bucket!r} cannot be the name of a bucket; write gs://bucket/name")
    if {".", ".."} & set(name.split("/")):
        raise RefusedError(f"{uri}: a gs:// name may not hold '.' or '..' between slashes; write it out")
    return f"gs://{bucket}/{name}" if name else f"gs://{bucket}"


def join(uri: str, *parts: str) -> str:
    """The uri of a file below a folder; a part is a relative name such as `a.wav` or `plots/a.png`.

    Raises RefusedError for an empty or absolute part, for one with `.`, `..` or an empty name in it, and for `gs://` alone.

    >>> join("gs://bucket/run/", "plots", "a.png")
    'gs://bucket/run/plots/a.png'
    """
    for part in parts:
        if {"", ".", ".."} & set(part.split("/")) or "\0" in part:
            raise RefusedError(f"{part!r} is not a plain relative name below {uri}; use names without '..'")
    _refuse_no_bucket(uri)
    return "/".join([uri.rstrip("/"), *parts])


def bucket_and_name(uri: str) -> tuple[str, str]:
    """Bucket and object name of a gs:// uri; the name is '' for a bucket.

    >>> bucket_and_name("gs://bucket/folder/a.wav")
    ('bucket', 'folder/a.wav')
    """
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name
