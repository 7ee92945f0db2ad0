"""The clips of an extraction in shards on the local disk: of millions, one shard at a time is in memory."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from w2v2.data.accounting import account_of, tolerated_in
from w2v2.data.manifest import CLIPS, Manifest, with_rejects
from w2v2.data.recording_quality import MEASURES
from w2v2.data.rejects import REJECTS
from w2v2.inference import extraction
from w2v2.inference.extraction import DONE, STORED_COLUMNS, ExtractionJob
from w2v2.inference.outcomes import done_before
from w2v2.inference.reading import CHECKSUM_IN_TABLE
from w2v2.inference.todo import Todo
from w2v2.json_types import Json
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.tables.spec import Where
from w2v2.tables.spool import Spool, SpooledTable
from w2v2.tables.table import Table

NUM_TRIES = 5
DIGESTS = ("fingerprint", "settings", "inputs", "checksum", CHECKSUM_IN_TABLE, "part", "vectors_in")
"""Columns of clips that hold digests, and names made of digests."""
SHARDS_MEASURED = 10
"""The most shards whose recordings are measured for the page: a million clips."""


class Shards:
    """The clips of a corpus, a file for each shard; their numbers and their rejects are in memory."""

    counts: dict[str, int]
    """Clips by outcome, as extraction.counts gives them, of earlier attempts once sort_out has been called."""

    def __init__(self, folder: Path, shards: Iterable[Manifest], spool: Spool) -> None:
        self.spool = spool
        self.num_clips, self.num_shards = 0, 0
        self.counts = {"embedded": 0, "in_table": 0, "rejected": 0}
        self.passed_over: Counter[str] = Counter()
        self._folder, rejects = folder, [REJECTS.empty_table()]
        for shard in shards:
            self._write(self.num_shards, shard.clips)
            self.num_shards += 1
            self.num_clips += len(shard.clips)
            self.passed_over.update(shard.passed_over)
            rejects.append(shard.rejects)
        self.rejects = pa.concat_tables(rejects)

    @property
    def num_given(self) -> int:
        """Clips, and rejects of before any was read."""
        return self.num_clips + len(self.rejects)

    def read(self, number: int) -> pa.Table:
        """The clips of a shard."""
        return pq.read_table(self._path(number))

    def __iter__(self) -> Iterator[pa.Table]:
        return (self.read(number) for number in range(self.num_shards))

    def sort_out(self, job: ExtractionJob, table: Table | None) -> Todo:
        """The clips to embed; all clips get the columns of extraction.sort_out."""
        todo = Todo(run=job.config.run, num_at_once=job.config.data.num_readers)
        counts: Counter[str] = Counter(embedded=0, in_table=0, rejected=0)
        stored = spooled_rows(self.spool, table, job) if table else None
        done = spooled_done(self.spool, job)
        for number, clips in enumerate(self):
            rows = RowsOfClips(stored.among("clip_id", clips["clip_id"])) if stored else None
            earlier = done.among("uri", clips["uri"])
            clips = extraction.sort_out(clips, job, done=earlier, table=rows)
            self._write(number, clips)
            todo.add(extraction.to_do(clips, job))
            counts.update(extraction.counts(clips))
        self.counts = dict(counts)
        return todo

    def lost_to_newer(self, job: ExtractionJob, table: Table) -> int:
        """The number of written clips for which the table has newer rows, from another run."""
        stored = spooled_rows(self.spool, table, job)
        return sum(
            extraction.lost_to_newer(clips, job, RowsOfClips(stored.among("clip_id", clips["clip_id"])))
            for clips in self
        )

    def manifest(self, extra_columns: Sequence[str]) -> Manifest:
        """All clips in memory, with the columns that manifest.read and file_facts give them, `extra_columns` among them."""
        names = [*CLIPS.names, *extra_columns, "size_bytes", "fingerprint", "checksum"]
        clips = pa.concat_tables([clips.select(names) for clips in self])
        return Manifest(clips=clips, rejects=self.rejects, passed_over=self.passed_over)

    def finish(self, job: ExtractionJob, outcomes: SpooledTable) -> "Finished":
        """The sums over all clips, once manifest.parquet, or the files of manifest/, have been written with their outcomes."""
        counts: Counter[str] = Counter(embedded=0, in_table=0, rejected=0)
        tolerated: Counter[str] = Counter()
        parts: dict[str, None] = {}
        rejects, recordings = [self.rejects], []
        for number, clips in enumerate(self):
            new = outcomes.among("uri", clips["uri"])
            if len(new):
                clips = extraction.with_outcomes(clips, new)
                self._write(number, clips)
            run_directory.write_shard(
                job.config.run, "manifest", clips, number, of=self.num_shards, digests=DIGESTS
            )
            counts.update(extraction.counts(clips))
            parts |= dict.fromkeys(extraction.parts_of(clips, job.config.run))
            bad = extraction.rejected(clips)
            sorted_out = with_rejects(Manifest(clips=clips, rejects=REJECTS.empty_table()), bad)
            rejects.append(sorted_out.rejects)
            tolerated.update(tolerated_in(sorted_out.clips))
            recordings.append(
                _every_nth(sorted_out.clips.select([*MEASURES]), -(-self.num_shards // SHARDS_MEASURED))
            )
        return Finished(
            counts=dict(counts),
            rejects=pa.concat_tables(rejects),
            passed_over=self.passed_over,
            tolerated=tolerated,
            recordings=pa.concat_tables(recordings),
            parts=list(parts),
        )

    def _write(self, number: int, clips: pa.Table) -> None:
        pq.write_table(clips, self._path(number), compression="lz4")

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.parquet"


def _every_nth(rows: pa.Table, step: int) -> pa.Table:
    return rows if step == 1 else rows.take(pa.array(range(0, len(rows), step)))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The sums over all clips of an extraction, when each has its outcome."""

    counts: Mapping[str, int]
    """Numbers of clips by outcome: embedded, in_table, rejected while they were read or embedded."""
    rejects: pa.Table
    passed_over: Mapping[str, int]
    tolerated: Counter[str]
    recordings: pa.Table
    """The columns MEASURES of the clips used; of more than SHARDS_MEASURED shards, of some clips of each."""
    parts: list[str]
    """Uris of the parts that the table must take in, in the order of their clips, so that a commit has neighbouring
    clips."""

    @property
    def num_used(self) -> int:
        """Clips that have their vectors."""
        return self.counts["embedded"] + self.counts["in_table"]

    def account(self) -> dict[str, Json]:
        """`clips` of metrics.json; see data.accounting."""
        return account_of(self.num_used, self.rejects, self.passed_over, self.tolerated)


def spooled_done(spool: Spool, job: ExtractionJob) -> SpooledTable:
    """The outcomes of earlier attempts of this run."""
    done = spool.table("done", DONE)
    for rows in done_before(job.config):
        done.add(rows)
    return done


def spooled_rows(spool: Spool, table: Table, job: ExtractionJob) -> SpooledTable:
    """The rows of the table for this encoder and pooling."""
    columns = [*STORED_COLUMNS, *job.config.extra_columns]
    schema = extraction.spec_of(job.config).schema
    schema = pa.schema([schema.field(column) for column in columns])
    for attempt in range(NUM_TRIES):
        stored = spool.table("stored", schema)
        try:
            for rows in table.read_batches(columns, where=extraction.where_stored(job)):
                stored.add(rows)
            break
        except (
            storage.NotFoundError
        ):  # meanwhile another writer's commit has replaced files of a Parquet table
            if attempt + 1 == NUM_TRIES:
                raise
    return stored


class RowsOfClips:
    """Rows of a few clips, read as extraction reads a table."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def read(self, columns: Sequence[str] = (), *, where: Where | None = None) -> pa.Table:
        """The columns of the rows, which already are rows of one encoder and pooling."""
        return self._rows.select(list(columns))
