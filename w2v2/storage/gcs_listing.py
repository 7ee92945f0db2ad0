"""Pages of listings of Google Cloud Storage, as coroutines on gcsfs's loop; called through listing.py."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.json_types import JsonObject
from w2v2.storage import gcs
from w2v2.storage.uris import NotFoundError, RefusedError, bucket_and_name

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem

LISTING = pa.schema([("uri", pa.string()), ("size_bytes", pa.int64()), ("fingerprint", pa.string())])
"""Files as FileInfo has them."""

MAX_RANGES = 256
_MAX_ENTRY_PAGES = 20
_FIELDS = "nextPageToken,prefixes,items(name,size,crc32c,generation)"


@dataclass(frozen=True, kw_only=True)
class NamesBetween:
    """Names of objects from `start` (itself not, where is_open) to before `end`; '' is no limit."""

    start: str = ""
    end: str = ""
    is_open: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a listing: files (LISTING), the last name on it, and the token of the next page, '' if there is none."""

    files: pa.Table
    last: str
    token: str


async def first_page(fs: "GCSFileSystem", uri: str) -> Page:
    """The first files below a folder. Raises StorageError where the folder is missing, or uri is a file."""
    first = await page(fs, uri, NamesBetween(), "")
    if first.last:
        return first
    bucket, name = bucket_and_name(uri)
    if name:
        await _refuse_file(fs, uri)
        raise NotFoundError(
            f"{uri}: nothing is there: bucket {bucket!r} has no objects below that name; check it"
        )
    return first


async def _refuse_file(fs: "GCSFileSystem", uri: str) -> None:
    try:
        await gcs.stat(fs, uri)
    except (NotFoundError, RefusedError):
        return
    raise RefusedError(f"{uri}: is a file, where a folder was wanted; give a folder")


async def page(fs: "GCSFileSystem", uri: str, names: NamesBetween, token: str) -> Page:
    """A page of the files below a folder whose names are in this range."""
    bucket, _ = bucket_and_name(uri)
    query = {"startOffset": names.start, "endOffset": names.end, "pageToken": token, "fields": _FIELDS}
    answer = await gcs.listed(fs, uri, {"prefix": _prefix(uri), **query})
    items = answer.get("items", [])
    # Some tools make an object whose name ends in a slash for an empty folder.
    kept = [
        item
        for item in items
        if not item["name"].endswith("/") and not (names.is_open and item["name"] <= names.start)
    ]
    last = items[-1]["name"] if items else ""
    return Page(files=_files(bucket, kept), last=last, token=answer.get("nextPageToken", ""))


def _files(bucket: str, items: Sequence[JsonObject]) -> pa.Table:
    names = pa.array([item["name"] for item in items], pa.string())
    crc32c = pa.array([item["crc32c"] for item in items], pa.string())
    generations = pa.array([item["generation"] for item in items], pa.string())
    sizes = pa.array([int(item["size"]) for item in items], pa.int64())
    uris = pc.binary_join_element_wise(f"gs://{bucket}", names, "/")
    return pa.table([uris, sizes, pc.binary_join_element_wise(crc32c, generations, "-")], schema=LISTING)


async def ranges_after(fs: "GCSFileSystem", uri: str, last: str) -> list[NamesBetween]:
    """The names below a folder after `last`, divided into up to MAX_RANGES ranges at the names of its subfolders."""
    prefix = _prefix(uri)
    folders: list[str] = []
    if "/" in last.removeprefix(prefix):  # else these are files right below it, and there may be no folders
        folders = [folder for folder in await _folders(fs, uri, prefix, last) if folder > last]
    step = -(-len(folders) // MAX_RANGES) or 1
    bounds = [last, *folders[::step], ""]
    return [
        NamesBetween(start=start, end=end, is_open=start == last) for start, end in itertools.pairwise(bounds)
    ]


async def _folders(fs: "GCSFileSystem", uri: str, prefix: str, after: str) -> list[str]:
    """Names of the folders right below a prefix, in order; if there is only one, the names of the folders right below that one."""
    folders: list[str] = []
    token = ""
    for _ in range(_MAX_ENTRY_PAGES):
        query = {"prefix": prefix, "startOffset": after, "delimiter": "/", "pageToken": token}
        answer = await gcs.listed(fs, uri, {"fields": "nextPageToken,prefixes", **query})
        folders += answer.get("prefixes", [])
        token = answer.get("nextPageToken", "")
        if not token or not answer.get("prefixes"):  # a page without folders: very many such pages may follow
            break
    if len(folders) == 1 and after.startswith(folders[0]):
        return await _folders(fs, uri, folders[0], after)
    return folders


def _prefix(uri: str) -> str:
    """The prefix of the names of all objects below a folder."""
    _, name = bucket_and_name(uri)
    return f"{name}/" if name else ""
