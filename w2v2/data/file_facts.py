"""The files of clips: their sizes, and fingerprints that change with their content."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from w2v2.config.data import DataConfig
from w2v2.data.clip_columns import TablesInOrder
from w2v2.data.corpora.label_table import is_table
from w2v2.data.groups import among, hashes_of, places_of
from w2v2.data.manifest import Manifest, with_rejects
from w2v2.errors import Reject
from w2v2.storage import files as storage
from w2v2.storage.files import FileInfo, StorageError
from w2v2.storage.listing import LISTING, file_tables, table_of
from w2v2.storage.mapped_tables import on_disk, whole

MAX_FILE_BYTES = 2**30
"""Larger files are not read: a file is held in memory while it is decoded."""
MIN_LISTED = 1_000
"""From this many files of one bucket on, the folder that has all of them is listed; fewer are looked up one by one."""
LISTED_PER_FILE = 50
"""A listing ends after this many listed files for each wanted file: looking up the wanted ones one by one is then
faster."""
_LISTED_AT_ONCE = 10_000


def add_file_facts(
    corpus: Manifest, data: DataConfig, *, listing: Iterable[pa.Table] | None = None
) -> Manifest:
    """The clips with size_bytes, fingerprint and checksum of their files; those without a file are rejected.

    The checksum is empty where it takes reading to know it. listing has files that listings show (LISTING); None makes
    listings of what data names.
    """
    uris = corpus.clips["uri"]
    if len(np.unique(hashes_of(uris))) < len(uris):  # segments of the same files
        uris = pa.chunked_array([uris.unique()])
    if listing is None:
        listing = _listed(uris, data)
    files, errors = _looked_up(uris, listing, num_at_once=4 * data.num_readers)
    large = files.filter(pc.greater(files["size_bytes"], MAX_FILE_BYTES))
    refused = {uri: error.reject for uri, error in errors.items()}
    refused |= {row["uri"]: too_large(row["size_bytes"]) for row in large.to_pylist()}
    lost = corpus.clips.filter(pc.is_in(corpus.clips["uri"], pa.array(refused, pa.string())))
    pairs = zip(lost["clip_id"].to_pylist(), lost["uri"].to_pylist(), strict=True)
    corpus = with_rejects(corpus, [(clip_id, refused[uri]) for clip_id, uri in pairs])
    clips = corpus.clips
    place = places_of(clips["uri"], files["uri"])
    facts = on_disk(files.select(["size_bytes", "fingerprint"]).take(pa.array(place, mask=place < 0)))
    for name in facts.column_names:
        clips = clips.append_column(name, facts[name])
    checksum = on_disk(pa.table({"checksum": checksums(clips)}))["checksum"]
    return replace(corpus, clips=clips.append_column("checksum", checksum))


def without_missing_files(corpus: Manifest, data: DataConfig) -> Manifest:
    """The clips; those whose local file is missing or cannot be read are rejected before anything is computed."""
    is_remote = pc.starts_with(corpus.clips["uri"], "gs://")
    uris = corpus.clips["uri"].filter(pc.invert(is_remote)).unique().to_pylist()
    infos = dict(zip(uris, storage.stat_many(uris, num_at_once=data.num_readers), strict=True))
    refused = {uri: reject for uri, info in infos.items() if (reject := reject_of(info))}
    lost = corpus.clips.filter(pc.is_in(corpus.clips["uri"], pa.array(refused, pa.string())))
    pairs = zip(lost["clip_id"].to_pylist(), lost["uri"].to_pylist(), strict=True)
    return with_rejects(corpus, [(clip_id, refused[uri]) for clip_id, uri in pairs])


def _looked_up(
    uris: pa.ChunkedArray, listing: Iterable[pa.Table], *, num_at_once: int
) -> tuple[pa.Table, dict[str, StorageError]]:
    """The files of these uris (LISTING), and the errors of those that cannot be looked up."""
    files = _wanted(listing, hashes_of(uris))
    unlisted = uris.filter(pa.array(places_of(uris, files["uri"]) < 0)).to_pylist()
    infos = dict(zip(unlisted, storage.stat_many(unlisted, num_at_once=num_at_once), strict=True))
    errors = {uri: info for uri, info in infos.items() if isinstance(info, StorageError)}
    stated = table_of(info for info in infos.values() if isinstance(info, FileInfo))
    return (pa.concat_tables([files, stated]).combine_chunks() if len(stated) else files), errors


def _wanted(listing: Iterable[pa.Table], hashes: Int[np.ndarray, " uris"]) -> pa.Table:
    """The listed files whose uris have these hashes."""
    wanted, files = np.unique(hashes), TablesInOrder(LISTING)
    for number, table in enumerate(listing):
        listed = hashes_of(table["uri"])
        nearest = np.minimum(np.searchsorted(wanted, listed), len(wanted) - 1)
        is_wanted = wanted[nearest] == listed if len(wanted) else np.zeros(len(listed), bool)
        files.add(number, table.filter(pa.array(is_wanted)))
    return files.all()


def listed_fingerprints(clips: pa.Table, data: DataConfig) -> pa.ChunkedArray:
    """The fingerprint of each clip's file; null for local files and for files that no listing shows."""
    remote = among(clips["uri"], pc.starts_with(clips["uri"], "gs://"))
    if not len(remote):
        return pa.chunked_array([pa.nulls(len(clips), pa.string())])
    hashes = hashes_of(clips["uri"])
    tables = _listed(remote, data)
    usable = (table.filter(pc.less_equal(table["size_bytes"], MAX_FILE_BYTES)) for table in tables)
    return _fingerprints_of(clips["uri"], hashes, _wanted(usable, hashes))


def _fingerprints_of(
    uris: pa.ChunkedArray, hashes: Int[np.ndarray, " clips"], files: pa.Table
) -> pa.ChunkedArray:
    """The fingerprints of the files with these uris, whose hashes are given; null where files has none."""
    of_files = hashes_of(files["uri"])
    in_order = np.argsort(of_files)
    place = np.searchsorted(of_files, hashes, sorter=in_order)
    place = np.append(in_order, -1)[np.minimum(place, len(files))]
    fingerprints = [pa.array([], pa.string())]
    for at in range(0, len(uris), _LISTED_AT_ONCE):
        places = pa.array(place[at : at + _LISTED_AT_ONCE])
        near = files.take(pc.if_else(pc.less(places, 0), None, places))
        is_it = pc.equal(near["uri"], uris.slice(at, _LISTED_AT_ONCE))
        fingerprints.append(pc.if_else(is_it, near["fingerprint"], None).combine_chunks())
    return pa.chunked_array([pa.concat_arrays(fingerprints)])


def _listed(uris: pa.Array | pa.ChunkedArray, data: DataConfig) -> Iterator[pa.Table]:
    """Tables of the files that listings show: one listing describes a thousand files."""
    if data.layout != "csv" and not is_table(data.uri) and not data.files:
        yield from file_tables(data.uri, num_rows=_LISTED_AT_ONCE)
        return
    remote = among(uris, pc.starts_with(uris, "gs://"))
    remote = whole(remote) if isinstance(remote, pa.ChunkedArray) else remote
    buckets = pc.extract_regex(remote, "^gs://(?P<bucket>[^/]*)").field("bucket")
    for bucket in buckets.unique().to_pylist():
        wanted = among(remote, pc.equal(buckets, bucket))
        first, last = pc.min_max(wanted).as_py().values()
        yield from listed_between(first, last, num_wanted=len(wanted))


def listed_between(first: str, last: str, *, num_wanted: int) -> Iterator[pa.Table]:
    """Tables (LISTING) of the files in the folder that the uris first and last share, in the order of their uri.

    Yields nothing where fewer than MIN_LISTED files are wanted or the folder may not be listed. Ends before the end of the
    folder after LISTED_PER_FILE listed files for each wanted one: the folder has too many others.
    """
    if num_wanted < MIN_LISTED:
        return
    pairs = zip(first.split("/"), last.split("/"), strict=False)
    folder = "/".join(low for low, high in itertools.takewhile(_is_pair, pairs))
    num_listed = 0
    try:
        for table in file_tables(folder, num_rows=_LISTED_AT_ONCE):
            yield table
            num_listed += len(table)
            if num_listed > LISTED_PER_FILE * num_wanted:
                return
    except (storage.NotFoundError, storage.RefusedError):
        return  # reading may be allowed where listing is not


def _is_pair(names: tuple[str, str]) -> bool:
    return names[0] == names[1]


def reject_of(info: FileInfo | StorageError) -> Reject | None:
    """Why a file is not read: it cannot be looked up, or is too large for memory; None if it is read."""
    if isinstance(info, StorageError):
        return info.reject
    return too_large(info.size_bytes) if info.size_bytes > MAX_FILE_BYTES else None


def too_large(size_bytes: int) -> Reject:
    """The reject of a file of more than MAX_FILE_BYTES."""
    return Reject(kind="too large", detail=f"{size_bytes / 1e9:.3g} GB > {MAX_FILE_BYTES / 1e9:.3g} GB")


def checksums(clips: pa.Table) -> pa.ChunkedArray:
    """The checksum of each clip's file, as reading.checksum_of makes it, out of its fingerprint; '' for local files."""
    crc32c = pc.replace_substring_regex(clips["fingerprint"], "-[^-]*$", "")
    of_remote = pc.binary_join_element_wise("crc32c", crc32c, "=")
    return pc.if_else(pc.starts_with(clips["uri"], "gs://"), of_remote, "")
