"""Files below a folder as tables, page by page, so that a large bucket's files are never all in memory."""

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from w2v2.storage import gcs, gcs_listing, local
from w2v2.storage.gcs_listing import LISTING, NamesBetween
from w2v2.storage.uris import FileInfo, expand, is_remote

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem

Result = TypeVar("Result")

NUM_AT_ONCE = 16
"""Ranges of names that are listed side by side."""
LOCAL_PAGE = 10_000
"""Local files that are looked up before a table of them is made."""
NO_TEXT = "no text"
"""The fingerprint of a local file whose name has bytes that are not UTF-8: no table can hold it."""
MAX_PAGES_WAITING = 64
"""Pages of one range that are read ahead, about 10 MB."""


def file_tables(uri: str, *, num_rows: int) -> Iterator[pa.Table]:
    """All files below a folder as tables (LISTING) in the order of their uri, hidden ones too, num_rows in all but the last.

    A folder in gs:// is listed in up to NUM_AT_ONCE ranges of names side by side. Raises StorageError where the folder or
    the bucket is missing, or uri is a file.
    """
    base = expand(uri)
    return of_size(_remote_pages(base) if is_remote(base) else _local_pages(base), num_rows)


def files_below(uri: str) -> list[FileInfo]:
    """All files below a folder in the order of their uri, hidden ones too; see file_tables."""
    base = expand(uri)
    if not is_remote(base):
        return local.list_files(base)
    return [
        FileInfo(uri=uri, size_bytes=size_bytes, fingerprint=fingerprint)
        for page in _remote_pages(base)
        for uri, size_bytes, fingerprint in zip(*(column.to_pylist() for column in page.columns), strict=True)
    ]


def table_of(infos: Iterable[FileInfo]) -> pa.Table:
    """The files as a table (LISTING)."""
    rows = [(info.uri, info.size_bytes, info.fingerprint) for info in infos]
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, LISTING.types, strict=True)], LISTING
    )


def of_size(tables: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """The rows of the tables in their order, num_rows at a time."""
    held: list[pa.Table] = []
    num_held = 0
    for table in tables:
        while num_held + len(table) >= num_rows:
            first, table = table.slice(0, num_rows - num_held), table.slice(num_rows - num_held)
            yield pa.concat_tables([*held, first]).combine_chunks()
            held, num_held = [], 0
        held.append(table)
        num_held += len(table)
    if num_held:
        yield pa.concat_tables(held).combine_chunks()


def _local_pages(uri: str) -> Iterator[pa.Table]:
    files = (_named_in_text(info) for info in local.iterate_files(uri))
    while page := list(itertools.islice(files, LOCAL_PAGE)):
        yield table_of(page)


def _named_in_text(info: FileInfo) -> FileInfo:
    """The file; if its name is not UTF-8, with the other bytes escaped and the fingerprint NO_TEXT."""
    try:
        info.uri.encode()
    except UnicodeEncodeError:
        shown = info.uri.encode("utf-8", "backslashreplace").decode()
        return replace(info, uri=shown, size_bytes=0, fingerprint=NO_TEXT)
    return info


def _remote_pages(uri: str) -> Iterator[pa.Table]:
    fs = gcs.client()

    def begin(work: Coroutine[None, None, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, fs.loop)

    first = begin(gcs_listing.first_page(fs, uri)).result()
    yield first.files
    if not first.token:
        return
    ranges = iter(begin(gcs_listing.ranges_after(fs, uri, first.last)).result())
    waiting: deque[_Pages] = deque()
    try:
        waiting.extend(_Pages(fs, uri, names) for names in itertools.islice(ranges, NUM_AT_ONCE))
        while waiting:
            yield from waiting[0]
            waiting.popleft()
            waiting.extend(_Pages(fs, uri, names) for names in itertools.islice(ranges, 1))
    finally:
        for pages in waiting:
            pages.cancel()


class _Pages:
    """The pages of a range of names, read ahead on the client's loop."""

    def __init__(self, fs: "GCSFileSystem", uri: str, names: NamesBetween) -> None:
        self._fs, self._uri, self._names = fs, uri, names
        self._queue: asyncio.Queue[pa.Table | BaseException | None] = asyncio.Queue(MAX_PAGES_WAITING)
        self._reader = asyncio.run_coroutine_threadsafe(self._read(), fs.loop)

    async def _read(self) -> None:
        try:
            token = ""
            while True:
                page = await gcs_listing.page(self._fs, self._uri, self._names, token)
                await self._queue.put(page.files)
                token = page.token
                if not token:
                    break
            await self._queue.put(None)
        except Exception as error:
            await self._queue.put(error)

    def __iter__(self) -> Iterator[pa.Table]:
        while True:
            item = asyncio.run_coroutine_threadsafe(self._queue.get(), self._fs.loop).result()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def cancel(self) -> None:
        """Stop reading ahead."""
        self._reader.cancel()
