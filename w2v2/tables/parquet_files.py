"""The data files of a table of Parquet files, each with a copy without its vectors.

    <folder>/00000002-<digest>.parquet                    rows of commit 2; never changed
    <folder>/_without_vectors/00000002-<digest>.parquet   the same rows, in a fiftieth of the bytes

Whoever needs no vectors, such as a commit or a resumed job, reads the copies, each once while the table is open.
"""

import functools
import hashlib
import io
import logging
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int

from w2v2.storage import files as storage
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet
from w2v2.tables.spec import TableSpec

logger = logging.getLogger(__name__)

_NARROW = "_without_vectors"
_FILE = re.compile(rf"(?:{_NARROW}/)?(([0-9]{{8}})-[0-9a-f]{{40}}\.parquet)")


class ParquetFiles:
    """The data files in a folder; they are made once, and removed where no version of the table names them."""

    def __init__(self, uri: str, spec: TableSpec) -> None:
        self.uri, self._spec = uri, spec
        self._narrow_names = [name for name in spec.schema.names if name != spec.vector]

    @property
    def scratch(self) -> str:
        """A local folder for the temporary files of a commit."""
        return self._folder.name

    @functools.cached_property
    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="w2v2-table-")  # as long as this lives

    def write(self, number: int, rows: pa.Table) -> str:
        """The name of a new file with the rows; number is the version of the table that will name the file."""
        data = to_parquet(rows)
        name = f"{number:08d}-{hashlib.sha256(data).hexdigest()[:40]}.parquet"
        if self._spec.vector:
            self._write_narrow(name, rows.select(self._narrow_names))
        storage.write_bytes(storage.join(self.uri, name), data)
        return name

    def read(self, name: str, columns: Sequence[str]) -> pa.Table:
        """The columns of a file's rows. Raises NotFoundError, and DamagedError where its bytes were changed."""
        if self._spec.vector and self._spec.vector not in columns:
            return self._narrow(name).select(list(columns))
        return self._read_whole(name, columns)

    def keys_file(self, name: str, columns: Sequence[str]) -> Path:
        """A local Parquet file with these columns of a file's rows, in their order; every call must name the same columns.

        Raises NotFoundError, and DamagedError where the file's bytes were changed.
        """
        path = Path(self.scratch) / name
        if not path.exists():
            rows = self._narrow(name, keep=True) if self._spec.vector else self._read_whole(name, columns)
            part = path.with_suffix(".part")
            pq.write_table(rows.select(list(columns)), part, compression="zstd")
            part.rename(path)
        return path

    def remove_unnamed(self, listed: Sequence[str], *, named: Sequence[str], number: int) -> None:
        """Remove the listed files that version `number` does not name, except files of later versions, which another writer may be making."""
        for path in listed:
            match = _FILE.fullmatch(path)
            if match and int(match[2]) <= number and match[1] not in named:
                storage.delete(storage.join(self.uri, path))

    def _narrow(self, name: str, *, keep: bool = False) -> pa.Table:
        """The rows of a file without vectors, from its copy; where that is missing or damaged, from the file (`keep` makes the copy again)."""
        uri = self._narrow_uri(name)
        try:
            return parse_parquet(uri, storage.read_bytes(uri))
        except storage.NotFoundError:
            logger.debug("%s: an earlier version made no copy", uri)
        except storage.DamagedError as error:
            logger.warning("%s: its rows are read from %s", error, name)
        rows = self._read_whole(name, self._narrow_names)
        if keep:
            self._write_narrow(name, rows)
        return rows

    def _write_narrow(self, name: str, rows: pa.Table) -> None:
        storage.write_bytes(self._narrow_uri(name), to_parquet(rows, sealed=True))

    def _narrow_uri(self, name: str) -> str:
        return storage.join(self.uri, f"{_NARROW}/{name}")

    def _read_whole(self, name: str, columns: Sequence[str]) -> pa.Table:
        uri = storage.join(self.uri, name)
        try:
            data = storage.read_bytes(uri)
        except storage.NotFoundError as error:
            raise storage.NotFoundError(
                f"{uri}: the table's manifest names this file, which is not there; restore it"
            ) from error
        if name[9:49] != hashlib.sha256(data).hexdigest()[:40]:
            raise storage.DamagedError(
                f"{uri}: damaged: its bytes do not match the digest in its name; restore it"
            )
        return pq.read_table(io.BytesIO(data), columns=list(columns))


def positions_at(places: pa.Table, place: str) -> Int[np.ndarray, " rows"]:
    """Positions of the rows at one place, in order."""
    chosen = pc.equal(places["place"], place)
    return np.sort(places.filter(chosen)["position"].to_numpy())
