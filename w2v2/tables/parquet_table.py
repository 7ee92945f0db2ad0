"""A table in a folder of Parquet files, local or gs://, with manifests that list the files of each version.

    <folder>/_manifest/00000003.json    the newest manifest names the files; made once, never changed
    <folder>/_manifest/00000003.made    an empty file: there has been a manifest of this number
    <folder>/00000002-<digest>.parquet  rows of commit 2; see parquet_files

`read()` follows the manifest and is right at any time. A program that reads `<folder>/*.parquet` is right
unless a commit is running, or was killed and not repeated.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.errors import UserError
from w2v2.json_types import JsonObject
from w2v2.storage import files as storage
from w2v2.storage.seals import parse_json, seal_json
from w2v2.tables import sql
from w2v2.tables.parquet_files import ParquetFiles, positions_at
from w2v2.tables.parts import read_part, together
from w2v2.tables.spec import Commit, TableSpec, Where, check_columns, concatenated, one_dim_error

_MANIFEST = re.compile(r"_manifest/([0-9]{8})\.json")
_MARK = re.compile(r"_manifest/([0-9]{8})\.made")
_NUM_TRIES = 20
_FILE_BYTES = 64 * 2**20
"""Parts are joined to files of so many bytes in memory: a file for each would be thousands."""
_MEMORY = "512MB"
"""The memory of DuckDB while it compares a commit with the table; beyond it DuckDB uses a temporary folder."""


@dataclass(frozen=True, kw_only=True)
class _Version:
    number: int
    files: tuple[str, ...]
    """Names of the Parquet files that are the table."""


class ParquetTable:
    """The table in a folder; a folder that is missing or empty becomes one.

    Rows get in exactly once: a commit writes new files, then creates the next manifest, which fails if another
    writer has created it, and then the commit starts again from that one. So no number of concurrent writers
    loses a row, and a process killed anywhere leaves the table unchanged.
    """

    bytes_per_commit = 2**30

    def __init__(self, uri: str, spec: TableSpec) -> None:
        self.uri, self._spec = storage.expand(uri), spec
        self._files = ParquetFiles(self.uri, spec)
        columns = {field.name: str(field.type) for field in spec.schema}
        numbers, other_files = self._listed()
        if not numbers and other_files:
            raise UserError(
                f"folder {uri} has files ({other_files[0]}) but no manifest of a table: give an empty folder"
            )
        if not numbers:
            self._publish(_Version(number=0, files=()))
        check_columns(uri, existing=self._manifest(max(numbers, default=0))["columns"], wanted=columns)

    def read(self, columns: Sequence[str] = (), *, where: Where | None = None) -> pa.Table:
        """Rows with the columns (none named: all) where each column of where equals its value.

        Raises NotFoundError or DamagedError where a file of the table is missing or damaged.
        """
        for attempt in range(_NUM_TRIES):
            version = self._newest()
            try:
                return concatenated(self._spec, columns, self._read_version(version, columns, where))
            except storage.NotFoundError:
                # A commit may have removed a file since the manifest was read: then there is a newer one.
                if attempt + 1 == _NUM_TRIES or self._newest() == version:
                    raise
        raise AssertionError

    def read_batches(self, columns: Sequence[str] = (), *, where: Where | None = None) -> Iterator[pa.Table]:
        """The rows of `read`, file by file. Raises NotFoundError where a commit of another writer removes a file meanwhile."""
        yield from self._read_version(self._newest(), columns, where)

    def _read_version(
        self, version: _Version, columns: Sequence[str], where: Where | None
    ) -> Iterator[pa.Table]:
        names, where = list(columns) or self._spec.schema.names, where or {}
        chosen = pc.scalar(True)
        for name, value in where.items():
            chosen = chosen & (pc.field(name) == pc.scalar(value))
        for file in version.files:
            yield self._files.read(file, list({*names, *where})).filter(chosen).select(names)

    def commit(self, parts: Sequence[str]) -> Commit:
        """Take the rows of the parts into the table, exactly once; see tables.Table.

        Raises UserError for vectors of two lengths, for a damaged part, where other writers leave no pause, and where a
        file of the table is missing or damaged.
        """
        staged = self._staged_keys(parts)
        for _ in range(_NUM_TRIES):
            version = self._newest()
            try:
                counts, newer, outdated = self._compare(staged, version.files)
                following = self._write(version, parts, newer, outdated) if counts.pending else version
            except storage.NotFoundError:
                if self._newest() == version:
                    raise
                continue  # another writer's commit has removed a file
            if following == version or self._publish(following):
                self._files.remove_unnamed(self._listed()[1], named=following.files, number=following.number)
                return counts
        raise UserError(f"table {self.uri} is being written by others without pause: run again later")

    @property
    def _key_columns(self) -> list[str]:
        return list(dict.fromkeys([*self._spec.key, self._spec.newest_by, *self._spec.dim_per, *self._dim]))

    @property
    def _dim(self) -> list[str]:
        return ["dim"] if self._spec.vector else []

    def _staged_keys(self, parts: Sequence[str]) -> pa.Table:
        """Key columns of all parts, with the number of the part and the row that each came from."""
        schema = pa.schema([self._spec.schema.field(name) for name in self._key_columns])
        places = [("place", pa.string()), ("position", pa.int64())]
        empty = pa.schema([*schema, *places]).empty_table()
        tables = (read_part(part, self._key_columns) for part in parts)
        numbered = [
            table.append_column("place", pa.repeat(str(number), len(table))).append_column(
                "position", pa.array(np.arange(len(table)))
            )
            for number, table in enumerate(tables)
        ]
        return pa.concat_tables([empty, *numbered])

    def _compare(self, staged: pa.Table, files: Sequence[str]) -> tuple[Commit, pa.Table, pa.Table]:
        """The counts of a commit into these files, and the places and positions of the rows to add and to drop."""
        spec, names = self._spec, {"target": "stored", "staging": "staged", "quote": '"'}
        with duckdb.connect(
            config={"memory_limit": _MEMORY, "temp_directory": self._files.scratch}
        ) as connection:
            connection.register("staged", staged)
            self._view(connection, files)
            if spec.dim_per and (rows := connection.sql(sql.dims(spec, **names)).fetchall()):
                raise one_dim_error(self.uri, spec, rows[0])
            counts = connection.sql(sql.count(spec, **names)).fetchall()[0]
            newer = connection.sql(sql.newer(spec, **names)).to_arrow_table()
            outdated = connection.sql(sql.outdated(spec, **names)).to_arrow_table()
        commit = Commit.of_row(counts)
        self._check_none_lost(len(newer), commit.inserted + commit.replaced)
        self._check_none_lost(len(outdated), commit.replaced + commit.removed)
        return commit, newer, outdated

    def _check_none_lost(self, num_rows: int, num_wanted: int) -> None:
        """Raises UserError where two joins of DuckDB disagree: some versions lose rows of large tables."""
        if num_rows != num_wanted:
            raise UserError(
                f"table {self.uri}: DuckDB has {num_rows} of the {num_wanted} rows of a commit, which is undone: report this"
            )

    def _view(self, connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
        """Make the view `stored` of the files' keys; DuckDB reads them from the disk when it needs them."""
        if not files:
            connection.register("stored", self._staged_keys([]))
            return
        paths = [str(self._files.keys_file(file, self._key_columns)) for file in files]
        rows = connection.read_parquet(paths, filename=True, file_row_number=True, hive_partitioning=False)
        columns = sql.columns(self._key_columns, '"')
        rows.project(
            f"{columns}, parse_filename(filename) AS place, file_row_number AS position"
        ).create_view("stored")

    def _write(
        self, version: _Version, parts: Sequence[str], newer: pa.Table, outdated: pa.Table
    ) -> _Version:
        """The next version, after its files are written: files that lose rows are written again without them, then the new rows."""
        number, names = version.number + 1, self._spec.schema.names
        files: list[str] = []
        for file in version.files:
            if len(lost := positions_at(outdated, file)):
                rows = self._files.read(file, names)
                files += self._write_file(number, rows.take(np.setdiff1d(np.arange(len(rows)), lost)))
            else:
                files.append(file)
        new_rows = (self._rows_at(newer, place, part) for place, part in enumerate(parts))
        for rows in together(new_rows, num_bytes=_FILE_BYTES):
            files += self._write_file(number, rows)
        return _Version(number=number, files=tuple(files))

    def _rows_at(self, newer: pa.Table, place: int, part: str) -> pa.Table:
        """The rows of a part that are to be added; a part without any is not read."""
        kept = positions_at(newer, str(place))
        names = self._spec.schema.names
        return read_part(part, names).take(kept) if len(kept) else concatenated(self._spec, names, [])

    def _write_file(self, number: int, rows: pa.Table) -> Iterator[str]:
        if rows.num_rows:
            yield self._files.write(number, rows)

    def _listed(self) -> tuple[list[int], list[str]]:
        """Numbers of the manifests and names of the other files in the folder.

        Raises DamagedError where the newest manifest is missing: the previous one is not the table any more.
        """
        if not storage.exists(self.uri):
            return [], []
        names = [info.uri[len(self.uri) + 1 :] for info in storage.list_files(self.uri)]
        numbers = [int(match[1]) for name in names if (match := _MANIFEST.fullmatch(name))]
        newest_mark = max((int(match[1]) for name in names if (match := _MARK.fullmatch(name))), default=-1)
        if newest_mark > max(numbers, default=-1):
            uri = self._manifest_uri(newest_mark)
            if not storage.exists(uri):  # another writer may have made both during the listing
                raise storage.DamagedError(f"{uri}: the newest manifest of the table is missing; restore it")
            numbers.append(newest_mark)
        return numbers, [name for name in names if not _MANIFEST.fullmatch(name)]

    def _newest(self) -> _Version:
        number = max(self._listed()[0])
        return _Version(number=number, files=tuple(self._manifest(number)["files"]))

    def _manifest(self, number: int) -> JsonObject:
        uri = self._manifest_uri(number)
        try:
            manifest = parse_json(uri, storage.read_bytes(uri))
        except storage.DamagedError as error:
            raise storage.DamagedError(f"{error}; restore it") from error
        if not {"columns", "files"} <= manifest.keys():
            raise storage.DamagedError(f"{uri}: damaged: it lacks columns or files; restore it")
        return manifest

    def _manifest_uri(self, number: int) -> str:
        return storage.join(self.uri, f"_manifest/{number:08d}.json")

    def _publish(self, version: _Version) -> bool:
        """Whether this version became the table; False where another writer's version has its number."""
        columns = {field.name: str(field.type) for field in self._spec.schema}
        text = seal_json({"columns": columns, "files": version.files}, indent=1)
        uri = self._manifest_uri(version.number)
        is_made = storage.create(uri, text.encode())
        if is_made:
            storage.create(uri.removesuffix(".json") + ".made", b"")
        return is_made


def exists(uri: str) -> bool:
    """Whether there is a table in the folder."""
    return storage.exists(storage.join(storage.expand(uri), "_manifest"))
