"""Requests for the features of clips, their outcome, and the index from files to the digests of their audio.

The columns of a table are in memory; a clip becomes a Python object only while it is used.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.audio.decoding import DECODER_VERSION, decoder_of
from w2v2.audio.quality import Quality
from w2v2.config.data import FIRST_AUDIO_FIELDS, AudioConfig, CacheConfig, DataConfig
from w2v2.config.digest import positional, repr_digest, settings_digest
from w2v2.data.clip_columns import ClipColumns, table_of
from w2v2.data.file_facts import listed_fingerprints
from w2v2.data.groups import places_of
from w2v2.data.recording_quality import QUALITY, recorded_quality
from w2v2.data.rejects import RECORD, record_fields, recorded_reject
from w2v2.errors import Reject
from w2v2.storage import files as storage
from w2v2.storage.mapped_tables import on_disk
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet

SHARD_CLIPS = 100_000
"""The most clips of one file of an index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One clip to prepare, with what an earlier run learnt about its file ('' if nothing)."""

    clip_id: str
    uri: str
    start_s: float
    end_s: float
    fingerprint: str = ""
    audio_digest: str = ""
    num_samples: int = 0
    tolerated: str = ""
    quality: Quality | None = None
    listed_fingerprint: str = ""
    """The file's present fingerprint, where a listing has shown it; else the file is looked up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFeatures:
    """A clip whose features are in the cache, or the reject that says why it cannot be used."""

    clip_id: str
    fingerprint: str = ""
    audio_digest: str = ""
    num_samples: int = 0
    tolerated: str = ""
    """What the file lacks, or its damage, although it is used (audio.decoding.Clip)."""
    quality: Quality | None = None
    """None where the audio was read by an earlier version, which did not measure quality."""
    reject: Reject | None = None
    num_forwards: int = 0
    """Passes of this clip through a trunk: 0 if the cache had every entry."""


def audio_keys(audio: AudioConfig, uri: str) -> list[str]:
    """Digests of a corpus's place and its audio settings: the present one, then the ones that earlier versions used."""
    keys = [settings_digest("audio index", audio=audio, uri=uri)]
    values = positional(audio, FIRST_AUDIO_FIELDS)
    if values is not None:
        keys.append(repr_digest(values, uri)[:16])
    return keys


logger = logging.getLogger(__name__)

FILE_FACTS = {
    "fingerprint": pa.string(),
    "audio_digest": pa.string(),
    "num_samples": pa.int64(),
    "tolerated": pa.string(),
}
PLACE = {"uri": pa.string(), "start_s": pa.float64(), "end_s": pa.float64()}
INDEX = pa.schema([*PLACE.items(), *FILE_FACTS.items(), *QUALITY.items(), ("decoder", pa.int64())])
REQUESTS = pa.schema(
    [
        ("clip_id", pa.string()),
        *PLACE.items(),
        *FILE_FACTS.items(),
        *QUALITY.items(),
        ("listed_fingerprint", pa.string()),
    ]
)
FEATURES = pa.schema(
    [("clip_id", pa.string()), *FILE_FACTS.items(), *QUALITY.items(), *RECORD, ("num_forwards", pa.int64())]
)


def features_in_columns(clips: Iterable[ClipFeatures]) -> ClipColumns[ClipFeatures]:
    """The same clips as the rows of a table."""
    return ClipColumns(table_of(map(_row_of_features, clips), FEATURES), _features_of)


def in_columns(clips: Sequence[ClipFeatures]) -> ClipColumns[ClipFeatures]:
    """The same clips as the rows of a table, which they may be already."""
    return clips if isinstance(clips, ClipColumns) else features_in_columns(clips)


def features_of(rows: pa.Table) -> ClipColumns[ClipFeatures]:
    """The clips of a table (FEATURES)."""
    return ClipColumns(rows, _features_of)


def unchanged_features(requests: ClipColumns[Request]) -> ClipColumns[ClipFeatures]:
    """The features of requests whose files and features need not be read or computed again."""
    columns = {name: requests.table[name] for name in ("clip_id", *FILE_FACTS, *QUALITY)}
    num = len(requests)
    columns |= {name: pa.repeat(value, num) for name, value in record_fields(None).items()}
    columns["tolerated"] = pc.fill_null(columns["tolerated"], "")
    columns["num_forwards"] = pa.repeat(0, num)
    return ClipColumns(pa.table(columns).select(FEATURES.names).cast(FEATURES), _features_of)


def _row_of_features(clip: ClipFeatures) -> dict[str, object]:
    row = {name: getattr(clip, name) for name in ("clip_id", *FILE_FACTS, "num_forwards")}
    return row | (asdict(clip.quality) if clip.quality else {}) | record_fields(clip.reject)


def _features_of(row: Mapping[str, Any]) -> ClipFeatures:
    values = {name: row[name] for name in ("clip_id", *FILE_FACTS, "num_forwards")}
    return ClipFeatures(**values, quality=recorded_quality(row), reject=recorded_reject(row))


def _request_of(row: Mapping[str, Any]) -> Request:
    facts = {name: row[name] for name in (*FILE_FACTS, "listed_fingerprint") if row[name] is not None}
    place = {name: row[name] for name in ("clip_id", *PLACE)}
    return Request(**place, **facts, quality=recorded_quality(row))


class AudioIndex:
    """A map from a file's fingerprint to the digest of its audio, for one corpus and one preprocessing.

    <cache>/index/<key>.parquet, of more than SHARD_CLIPS clips <key>/00000.parquet and so on.
    """

    def __init__(self, data: DataConfig, audio: AudioConfig, cache: CacheConfig) -> None:
        folder = storage.join(storage.expand(cache.uri), "index")
        places = [storage.join(folder, key) for key in audio_keys(audio, data.uri)]
        self._data, self._place = data, places[0]
        indexes = (files for place in places if (files := _index_files(place)))
        tables = next(indexes, {})
        self._files = set(tables)
        self._rows = on_disk(pa.concat_tables([INDEX.empty_table(), *tables.values()]))

    def requests(self, clips: pa.Table, *, is_looked_up: bool = False) -> ClipColumns[Request]:
        """A request for every clip, with what earlier runs learnt about its file, and with what a listing shows of files in gs://."""
        place = places_of(_key(clips), _key(self._rows))
        rows = pa.array(place, mask=place < 0)
        columns = {name: self._rows[name].take(rows) for name in (*FILE_FACTS, *QUALITY)}
        columns["listed_fingerprint"] = pa.nulls(len(clips), pa.string())
        if is_looked_up:
            columns["listed_fingerprint"] = listed_fingerprints(clips, self._data)
        facts = on_disk(pa.table(columns))
        columns = {name: clips[name] for name in ("clip_id", *PLACE)}
        columns |= dict(zip(facts.column_names, facts.columns, strict=True))
        return ClipColumns(pa.table(columns).cast(REQUESTS), _request_of)

    def has_all(self, clips: pa.Table) -> bool:
        """Whether every clip's audio was read by an earlier run."""
        return bool((places_of(_key(clips), _key(self._rows)) >= 0).all())

    def save(self, requests: ClipColumns[Request], prepared: Sequence[ClipFeatures]) -> None:
        """Write the index with the usable clips added; the others are read again by the next run."""
        places, clips = requests.table, in_columns(prepared).table
        is_usable = pc.not_equal(clips["audio_digest"], "")
        if not pc.all(is_usable).as_py():  # else a copy of all would be made
            places, clips = places.filter(is_usable), clips.filter(is_usable)
        num_shards = max(1, -(-len(clips) // SHARD_CLIPS))
        names = [f"{self._place}/{number:05d}.parquet" for number in range(num_shards)]
        uris = names if num_shards > 1 else [f"{self._place}.parquet"]
        for number, uri in enumerate(uris):
            at = number * SHARD_CLIPS
            rows = _rows_of(places.slice(at, SHARD_CLIPS), clips.slice(at, SHARD_CLIPS))
            storage.write_bytes(uri, to_parquet(rows, sealed=True))
        for uri in self._files - set(uris):
            if uri.startswith(self._place):  # not those of an earlier version's key
                storage.delete(uri)


def _rows_of(places: pa.Table, clips: pa.Table) -> pa.Table:
    columns = {name: places[name] for name in PLACE} | {name: clips[name] for name in (*FILE_FACTS, *QUALITY)}
    columns["decoder"] = pa.repeat(DECODER_VERSION, len(places))
    return pa.table(columns).cast(INDEX)


def _key(clips: pa.Table) -> pa.ChunkedArray:
    """One text for each file and segment."""
    bounds = [pc.cast(clips[name], pa.string()) for name in ("start_s", "end_s")]
    return pc.binary_join_element_wise(*bounds, clips["uri"], " ")


def _index_files(place: str) -> dict[str, pa.Table]:
    """The files of an index and their rows; damaged ones are left out, with a warning."""
    uri = f"{place}.parquet"
    try:
        return {uri: _index_rows(uri, storage.read_bytes(uri))}
    except storage.NotFoundError:
        infos = storage.list_files(place, suffixes=(".parquet",)) if storage.exists(place) else []
        return {info.uri: _index_rows(info.uri, storage.read_bytes(info.uri)) for info in infos}


def _index_rows(uri: str, body: bytes) -> pa.Table:
    try:
        rows = parse_parquet(uri, body, INDEX)
    except storage.DamagedError as error:
        logger.warning("%s: the audio is read again", error)
        return INDEX.empty_table()
    # An earlier decoder may have decoded only a part of the file.
    is_new = pc.fill_null(pc.equal(rows["decoder"], DECODER_VERSION), False)
    if pc.all(is_new).as_py() is not False:  # else a copy of all would be made
        return rows
    old = rows.filter(pc.invert(is_new))
    same = pa.array([not decoder_of(uri) for uri in old["uri"].to_pylist()], pa.bool_())
    return pa.concat_tables([rows.filter(is_new), old.filter(same)])
