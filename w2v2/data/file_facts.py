"""The files of clips: how large they are, and what changes when their content does."""

from dataclasses import replace

import pyarrow as pa

from w2v2.config.data import DataConfig
from w2v2.data.corpora.label_table import is_table
from w2v2.data.manifest import Manifest, with_rejects
from w2v2.errors import Reject
from w2v2.storage import files as storage
from w2v2.storage.files import FileInfo, StorageError

MAX_FILE_BYTES = 2**30
"""Larger files are not read: a file is held in memory while it is decoded."""


def add_file_facts(corpus: Manifest, data: DataConfig) -> Manifest:
    """The clips with size_bytes, fingerprint and checksum of their files; those without a file are rejected.

    The checksum is empty where it takes reading to know it.
    """
    infos = _infos(corpus.clips, data)
    uris = corpus.clips["uri"].to_pylist()
    lost = [
        (clip_id, reject)
        for clip_id, uri in zip(corpus.clips["clip_id"].to_pylist(), uris, strict=True)
        if (reject := reject_of(infos[uri]))
    ]
    corpus = with_rejects(corpus, lost)
    infos_of_clips = [infos[uri] for uri in corpus.clips["uri"].to_pylist()]
    good = [info for info in infos_of_clips if isinstance(info, FileInfo)]
    clips = corpus.clips.append_column("size_bytes", pa.array([info.size_bytes for info in good], pa.int64()))
    for name, values in (
        ("fingerprint", [info.fingerprint for info in good]),
        ("checksum", [_checksum(info) for info in good]),
    ):
        clips = clips.append_column(name, pa.array(values, pa.string()))
    return replace(corpus, clips=clips)


def without_missing_files(corpus: Manifest, data: DataConfig) -> Manifest:
    """The clips, those whose local file is not there or cannot be read rejected: found before anything is computed."""
    uris = [uri for uri in corpus.clips["uri"].unique().to_pylist() if not storage.is_remote(uri)]
    infos = dict(zip(uris, storage.stat_many(uris, num_at_once=data.num_readers), strict=True))
    lost = [
        (clip_id, reject)
        for clip_id, uri in zip(
            corpus.clips["clip_id"].to_pylist(), corpus.clips["uri"].to_pylist(), strict=True
        )
        if uri in infos and (reject := reject_of(infos[uri]))
    ]
    return with_rejects(corpus, lost)


def _infos(clips: pa.Table, data: DataConfig) -> dict[str, FileInfo | StorageError]:
    uris = clips["uri"].unique().to_pylist()
    listed: dict[str, FileInfo | StorageError] = {}
    if data.layout != "csv" and not is_table(data.uri) and not data.files:
        # A listing describes a thousand files at once.
        listed = {info.uri: info for info in storage.list_files(data.uri)}
    unlisted = [uri for uri in uris if uri not in listed]
    return listed | dict(
        zip(unlisted, storage.stat_many(unlisted, num_at_once=4 * data.num_readers), strict=True)
    )


def reject_of(info: FileInfo | StorageError) -> Reject | None:
    """Why a file is not read, if it is not: it cannot be looked up, or is too large to be held in memory."""
    if isinstance(info, StorageError):
        return info.reject
    if info.size_bytes > MAX_FILE_BYTES:
        sizes = f"{info.size_bytes / 1e9:.3g} GB > {MAX_FILE_BYTES / 1e9:.3g} GB"
        return Reject(kind="too large", detail=sizes)
    return None


def _checksum(info: FileInfo) -> str:
    crc32c = info.fingerprint.rpartition("-")[0]
    return f"crc32c={crc32c}" if storage.is_remote(info.uri) else ""
