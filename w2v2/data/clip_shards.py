"""The clips of a corpus of any size, a shard at a time, with the facts about their files."""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.data import DataConfig
from w2v2.data import file_facts, manifest, table_shards
from w2v2.data.corpora.label_table import is_table
from w2v2.data.corpora.ravdess import NAME as RAVDESS_NAME
from w2v2.data.corpora.rows import AUDIO_SUFFIXES, HIDDEN, NOT_AUDIO, UNREAD, UNREAD_SUFFIXES, refuse_no_audio
from w2v2.data.manifest import CLIPS, Manifest
from w2v2.data.rejects import REJECTS, reject_columns
from w2v2.errors import Reject
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.listing import LISTING, NO_TEXT, file_tables
from w2v2.storage.local import UNKNOWN
from w2v2.wording import counted

logger = logging.getLogger(__name__)

SHARD_CLIPS = 100_000
"""The most clips of one shard."""


def read_shards(data: DataConfig, *, extra_columns: Sequence[str] = ()) -> Iterator[Manifest]:
    """The clips of data.uri in shards of up to SHARD_CLIPS, labels not needed, with size_bytes, fingerprint and checksum.

    A corpus of more than one shard is in the order of its uris. A folder without labels is read page by page, its files'
    facts with it, and a table row by row; other corpora are read whole, by manifest.read, which says what is raised.
    """
    if table_shards.can_stream(data):
        yield from table_shards.read_shards(data, extra_columns, SHARD_CLIPS)
        return
    if _is_plain_folder(data, extra_columns):
        tables = file_tables(data.uri, num_rows=SHARD_CLIPS)
        first = next(tables, LISTING.empty_table())
        if data.layout == "files" or not _is_ravdess(first):
            yield from _folder_shards(data, itertools.chain([first], tables))
            return
    corpus = file_facts.add_file_facts(manifest.read(data, task="none", extra_columns=extra_columns), data)
    clips = corpus.clips
    if len(clips) > SHARD_CLIPS:
        clips = clips.sort_by([("uri", "ascending"), ("start_s", "ascending")]).combine_chunks()
    yield replace(corpus, clips=clips.slice(0, SHARD_CLIPS))
    for at in range(SHARD_CLIPS, len(clips), SHARD_CLIPS):
        yield Manifest(clips=clips.slice(at, SHARD_CLIPS), rejects=REJECTS.empty_table())


def _is_plain_folder(data: DataConfig, extra_columns: Sequence[str]) -> bool:
    is_other = is_table(data.uri) or data.files or data.sheet or data.classes or extra_columns
    return data.layout in ("auto", "files") and not is_other


def _is_ravdess(files: pa.Table) -> bool:
    """Whether all of these files that are audio have names of RAVDESS's form."""
    audio = files.filter(_ends_with(files["uri"], AUDIO_SUFFIXES))
    return (
        pc.all(pc.match_substring_regex(audio["uri"], rf"(^|/){RAVDESS_NAME}\.[^./]*$")).as_py() is not False
    )


def _ends_with(uris: pa.ChunkedArray, suffixes: Sequence[str]) -> pa.ChunkedArray:
    pattern = "|".join(suffix.lstrip(".") for suffix in suffixes)
    return pc.match_substring_regex(uris, rf"(?i)\.({pattern})$")


def _folder_shards(data: DataConfig, tables: Iterable[pa.Table]) -> Iterator[Manifest]:
    root = storage.expand(data.uri)
    passed_over: Counter[str] = Counter()
    num_clips, unread = 0, ""
    unused: list[str] = []
    for files in tables:
        shard = _folder_shard(files, root)
        num_clips += len(shard.clips) + len(shard.rejects)
        if not num_clips and not unused:
            unused = files["uri"].slice(0, SHARD_CLIPS).to_pylist()
        if not unread and UNREAD in shard.passed_over:
            unread = files.filter(_ends_with(files["uri"], UNREAD_SUFFIXES))["uri"][0].as_py()
        passed_over.update(shard.passed_over)
        yield shard
    if not num_clips:
        refuse_no_audio(data, [uri for uri in unused if not storage.is_hidden(uri, root)])
    if unread:
        logger.warning(
            "%s: passed over %d audio files of formats that are not read, such as %s; convert them (ffmpeg -i a.wma a.wav)",
            data.uri, passed_over[UNREAD], unread,
        )  # fmt: skip
    if passed_over[NOT_AUDIO]:
        logger.info(
            "%s: passed over %s", data.uri, counted(passed_over[NOT_AUDIO], "files that are not audio")
        )


def _folder_shard(files: pa.Table, root: str) -> Manifest:
    """The audio files as clips, files that are too large as rejects, and the numbers of other files by kind."""
    below = pc.utf8_slice_codeunits(files["uri"], len(root) + 1)
    visible = pc.invert(pc.match_substring_regex(below, r"(^|/)\."))
    is_audio = pc.and_(visible, _ends_with(files["uri"], AUDIO_SUFFIXES))
    is_unread = pc.and_(visible, _ends_with(files["uri"], UNREAD_SUFFIXES))
    num_visible, num_audio, num_unread = (
        pc.sum(flags).as_py() or 0 for flags in (visible, is_audio, is_unread)
    )
    passed_over = {
        HIDDEN: len(files) - num_visible,
        UNREAD: num_unread,
        NOT_AUDIO: num_visible - num_audio - num_unread,
    }
    audio = files.append_column("clip_id", below).filter(is_audio)
    clip_ids = run_directory.without_secrets(audio.select(["clip_id"]))["clip_id"]
    audio = audio.set_column(audio.column_names.index("clip_id"), "clip_id", clip_ids)
    is_large = pc.greater(audio["size_bytes"], file_facts.MAX_FILE_BYTES)
    is_lost = pc.is_in(audio["fingerprint"], pa.array([UNKNOWN, NO_TEXT]))
    rejects = [_too_large(audio.filter(is_large)), _lost(audio.filter(is_lost))]
    return Manifest(
        clips=_clips(audio.filter(pc.invert(pc.or_(is_large, is_lost)))),
        rejects=pa.concat_tables(rejects),
        passed_over={kind: num for kind, num in passed_over.items() if num},
    )


def _clips(audio: pa.Table) -> pa.Table:
    num = len(audio)
    empty = pa.repeat("", num)
    constants = {"start_s": np.zeros(num), "end_s": np.full(num, np.inf)}
    constants |= dict.fromkeys(("speaker", "split", "label"), empty)
    clips = pa.table({"clip_id": audio["clip_id"], "uri": audio["uri"], **constants}, schema=CLIPS)
    facts = audio.select(["size_bytes", "fingerprint"])
    for field in facts.schema:
        clips = clips.append_column(field, facts[field.name])
    return clips.append_column("checksum", file_facts.checksums(clips))


def _lost(audio: pa.Table) -> pa.Table:
    """Rejects for local files that cannot be looked up, or whose names are not text."""
    rejects = [
        _reject_of(*row)
        for row in zip(*audio.select(["uri", "fingerprint"]).to_pydict().values(), strict=True)
    ]
    named = {"clip_id": audio["clip_id"], "uri": audio["uri"]}
    return pa.table(named | reject_columns(rejects), schema=REJECTS)


def _reject_of(uri: str, fingerprint: str) -> Reject:
    if fingerprint == NO_TEXT:
        return manifest.undecodable_name(uri)
    [info] = storage.stat_many([uri], num_at_once=1)
    return file_facts.reject_of(info) or Reject(
        kind="unreadable", detail=f"{uri}: could not be looked up before"
    )


def _too_large(audio: pa.Table) -> pa.Table:
    rejects = [file_facts.too_large(size) for size in audio["size_bytes"].to_pylist()]
    named = {"clip_id": audio["clip_id"], "uri": audio["uri"]}
    return pa.table(named | reject_columns(rejects), schema=REJECTS)
