"""The clips to embed, in portions for workers: tables, or for millions of clips files that workers read."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.storage import files as storage
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet

MAX_IN_MEMORY = 100_000
"""With more clips to embed the clips are in files, and only the files' names are in memory."""
CLIPS_PER_FILE = 1_000
NUM_SAMPLED = 8
_FILE = "todo_file"


@dataclass
class Todo:
    """The clips without an outcome, with the columns that workers need, collected a shard at a time."""

    run: str
    num_at_once: int
    num_clips: int = 0
    num_bytes: int = 0
    files: list[str] = field(default_factory=list)
    """The files with the clips; none where the clips are in memory."""
    _held: list[pa.Table] = field(default_factory=list)
    _samples: list[pa.Table] = field(default_factory=list)

    def add(self, clips: pa.Table) -> None:
        """Take in the clips of a shard."""
        if not len(clips):
            return
        self.num_clips += len(clips)
        self.num_bytes += pc.sum(clips["size_bytes"]).as_py() or 0
        self._samples.append(sampled(clips))
        self._held.append(clips)
        if self.num_clips > MAX_IN_MEMORY:
            self._write()

    def _write(self) -> None:
        for clips in self._held:
            clips = in_order_of_files(clips)
            slices = [clips.slice(at, CLIPS_PER_FILE) for at in range(0, len(clips), CLIPS_PER_FILE)]
            uris = [self._uri(len(self.files) + number) for number in range(len(slices))]
            bodies = (to_parquet(part, sealed=True) for part in slices)
            storage.write_many(zip(uris, bodies, strict=True), num_at_once=self.num_at_once)
            self.files += uris
        self._held = []

    def _uri(self, number: int) -> str:
        return storage.join(self.run, "todo", f"{number:06d}.parquet")

    @property
    def in_memory(self) -> pa.Table | None:
        """All of the clips; None where they are in files, or there are none."""
        return pa.concat_tables(self._held).combine_chunks() if self._held else None

    @property
    def sample(self) -> pa.Table:
        """A few of the clips, from the smallest to the largest file."""
        return sampled(pa.concat_tables(self._samples))

    def portions(self, size: int) -> list[pa.Table]:
        """The clips, at most `size` in each table, with clips of the same file adjacent; or tables of one row with the name of a file of clips."""
        clips = self.in_memory
        if clips is None:
            return [pa.table({_FILE: [uri]}) for uri in self.files]
        clips = in_order_of_files(clips)
        return [clips.slice(at, size) for at in range(0, len(clips), size)]

    def delete_files(self) -> None:
        """Remove the files, once nobody reads them."""
        for uri in self.files:
            storage.delete(uri)


def in_order_of_files(clips: pa.Table) -> pa.Table:
    """The clips in the order of their files, and of their beginning in the file."""
    return clips.sort_by([("uri", "ascending"), ("start_s", "ascending")]).combine_chunks()


def sampled(clips: pa.Table) -> pa.Table:
    """NUM_SAMPLED of the clips, from the smallest to the largest file."""
    chosen = np.unique(np.linspace(0, len(clips) - 1, NUM_SAMPLED).round().astype(int))
    return clips.sort_by("size_bytes").take(chosen)


def clips_of(portion: pa.Table) -> pa.Table:
    """The clips of a portion, read from its file where it names one."""
    if _FILE not in portion.column_names:
        return portion
    uris = portion[_FILE].to_pylist()
    return pa.concat_tables([parse_parquet(uri, storage.read_bytes(uri)) for uri in uris]).combine_chunks()
