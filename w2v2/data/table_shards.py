"""The clips of a table of labels of any size, row by row into a file that is read in the order of their uris."""

import itertools
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.data import DataConfig
from w2v2.data import file_facts, manifest, names
from w2v2.data.corpora.csv_corpus import read_csv
from w2v2.data.corpora.label_table import is_table
from w2v2.data.corpora.rows import ClipRow, CorpusRows
from w2v2.data.manifest import CLIPS, Manifest
from w2v2.data.rejects import REJECTS
from w2v2.storage.listing import LISTING
from w2v2.tables.spool import spool_in
from w2v2.wording import counted

logger = logging.getLogger(__name__)


def can_stream(data: DataConfig) -> bool:
    """Whether the corpus is a table whose rows can be read one by one: names are neither merged nor renamed."""
    is_csv = data.layout == "csv" or (data.layout == "auto" and is_table(data.uri))
    return is_csv and not data.merge_names and not data.classes


def read_shards(data: DataConfig, extra_columns: Sequence[str], num_rows: int) -> Iterator[Manifest]:
    """The clips in shards of num_rows, labels not needed, with the facts about their files.

    A single shard is in the order of its rows; several shards are in the order of their uris. Raises UserError as
    manifest.read does.
    """
    rows = iter(read_csv(data, task="none", extra_columns=extra_columns).rows)
    first = list(itertools.islice(rows, num_rows + 1))
    if len(first) <= num_rows:
        corpus = manifest.of_corpus(CorpusRows(rows=first), data, task="none", extra_columns=extra_columns)
        yield file_facts.add_file_facts(corpus, data)
        return
    portions = itertools.chain([first], iter(lambda: list(itertools.islice(rows, num_rows)), []))
    with tempfile.TemporaryDirectory(prefix="w2v2-table-") as folder:
        yield from _in_order(portions, data, extra_columns, num_rows, Path(folder))


def _in_order(
    portions: Iterator[list[ClipRow]],
    data: DataConfig,
    extra_columns: Sequence[str],
    num_rows: int,
    folder: Path,
) -> Iterator[Manifest]:
    schema = pa.schema([*CLIPS, *((name, pa.string()) for name in extra_columns)])
    seen = _Seen()
    with spool_in(folder) as spool:
        table = spool.table("clips", schema)
        for rows in portions:
            portion = manifest.of_rows(CorpusRows(rows=rows), task="none", extra_columns=extra_columns)
            table.add(portion.clips)
            seen.add(portion)
        manifest.refuse_duplicates(table.duplicates("clip_id"), data)
        logger.info(
            "%s: %s, %d rejected", data.uri, counted(seen.num_clips, "clips"), sum(map(len, seen.rejects))
        )
        for column, counts in seen.names.items():
            names.warn_of_spellings(names.spellings(counts), column)
        rejects = pa.concat_tables([REJECTS.empty_table(), *seen.rejects])
        listing = Listing(seen.listed())
        for clips in table.sorted_by("uri", "start_s", num_rows=num_rows):
            files = listing.of(clips["uri"].unique())
            yield file_facts.add_file_facts(Manifest(clips=clips, rejects=rejects), data, listing=files)
            rejects = REJECTS.empty_table()
        if len(rejects):
            yield file_facts.add_file_facts(
                Manifest(clips=schema.empty_table(), rejects=rejects), data, listing=[]
            )


@dataclass
class _Seen:
    """The rejects of rows, and the sums over all rows that the first shard needs."""

    num_clips: int = 0
    rejects: list[pa.Table] = field(default_factory=list)
    names: dict[str, Counter[str]] = field(default_factory=lambda: {"speaker": Counter(), "label": Counter()})
    """How many clips have each name of a speaker and of a class."""
    buckets: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """The first and the last uri, and the number of clips, of each bucket (its name ends with a slash)."""

    def add(self, portion: Manifest) -> None:
        """Take in some rows."""
        self.num_clips += len(portion.clips)
        self.rejects.append(portion.rejects)
        for column, counts in self.names.items():
            for name in pc.value_counts(portion.clips[column]).to_pylist():
                counts[name["values"]] += name["counts"]
        uris = portion.clips["uri"].filter(pc.starts_with(portion.clips["uri"], "gs://"))
        buckets = pc.extract_regex(uris, "^(?P<bucket>gs://[^/]*/)").combine_chunks().field("bucket")
        for bucket in buckets.unique().to_pylist():
            of_bucket = uris.filter(pc.equal(buckets, bucket))
            first, last = pc.min_max(of_bucket).as_py().values()
            before = self.buckets.get(bucket, (first, last, 0))
            self.buckets[bucket] = (min(first, before[0]), max(last, before[1]), len(of_bucket) + before[2])

    def listed(self) -> Iterator[pa.Table]:
        """Files of all buckets in the order of their uris, where listings show them (LISTING)."""
        for _, (first, last, num_wanted) in sorted(self.buckets.items()):
            yield from file_facts.listed_between(first, last, num_wanted=num_wanted)


class Listing:
    """A listing in the order of uris, read once while files in that order are looked up."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables, self._held = tables, LISTING.empty_table()

    def of(self, uris: pa.Array) -> Iterator[pa.Table]:
        """The listed files with these uris, which must come after the uris of earlier calls."""
        last = pc.max(uris).as_py()
        while self._held is not None:
            yield self._held.filter(pc.is_in(self._held["uri"], uris))
            if len(self._held) and self._held["uri"][-1].as_py() >= last:
                return
            self._held = next(self._tables, None)
