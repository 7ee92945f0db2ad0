"""Parts: Parquet files named by their content, written by workers and taken into a table by a commit."""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from w2v2.errors import UserError
from w2v2.storage import files as storage
from w2v2.storage.parquet import to_parquet
from w2v2.tables.spec import TableSpec, checked

_PART = re.compile(r"([0-9a-f]{40})-([0-9]{1,12})\.parquet")


class DamagedPartError(UserError):
    """Raised for a part whose bytes do not match the digest in its name."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)  # the argument that pickle passes to a copy
        self.uri = uri

    def __str__(self) -> str:
        return f"part {self.uri} is damaged: delete it and run the same command again"


def write_part(folder_uri: str, rows: pa.Table, *, spec: TableSpec) -> str:
    """The uri of the part with the rows, named by its content, so that writing it twice makes one file.

    Raises:
        UserError: the rows do not fit the spec; see spec.checked.
    """
    rows = checked(rows, spec)
    data = to_parquet(rows)
    uri = storage.join(folder_uri, f"{hashlib.sha256(data).hexdigest()[:40]}-{rows.num_rows}.parquet")
    if not storage.create(uri, data):  # there is a damaged one
        storage.write_bytes(uri, data)
    return uri


def list_parts(folder_uri: str) -> list[str]:
    """Uris of the parts in a folder, in order; none where the folder is missing. Other files are left out."""
    if not storage.exists(folder_uri):
        return []
    files = storage.list_files(folder_uri, suffixes=(".parquet",))
    return [file.uri for file in files if _PART.fullmatch(file.uri.rpartition("/")[2])]


def read_part(uri: str, columns: Sequence[str]) -> pa.Table:
    """The columns of one part.

    Raises:
        DamagedPartError: the part's bytes do not match the digest in its name.
    """
    digest = _match(uri)[1]
    data = storage.read_bytes(uri)
    if hashlib.sha256(data).hexdigest()[:40] != digest:
        raise DamagedPartError(uri)
    return pq.read_table(io.BytesIO(data), columns=list(columns))


def together(tables: Iterable[pa.Table], *, num_bytes: int) -> Iterator[pa.Table]:
    """The rows of the tables in their order, in fewer tables: each but the last has at least num_bytes."""
    held: list[pa.Table] = []
    held_bytes = 0
    for table in tables:
        held.append(table)
        held_bytes += table.nbytes
        if held_bytes >= num_bytes:
            yield pa.concat_tables(held)
            held, held_bytes = [], 0
    if held:
        yield pa.concat_tables(held)


def num_rows(parts: Sequence[str]) -> int:
    """Rows in all parts together, from their names. Raises UserError for a file that is not a part."""
    return sum(int(_match(uri)[2]) for uri in parts)


def groups_of(parts: Sequence[str], *, num_rows: int) -> list[list[str]]:
    """The parts in groups of about num_rows rows, one commit each; no parts are one empty group.

    Raises UserError for a file that is not a part.
    """
    groups: list[list[str]] = [[]]
    held = 0
    for part in parts:
        if groups[-1] and held >= num_rows:
            groups.append([])
            held = 0
        groups[-1].append(part)
        held += int(_match(part)[2])
    return groups


def write_id(uri: str, parts: Sequence[str]) -> str:
    """A digest (40 hex digits) of a table's uri and its parts in any order; BigQuery's job ids begin with it.

    Raises UserError for a file that is not a part.
    """
    digests = sorted(_match(part)[1] for part in parts)
    return hashlib.sha256("\n".join([uri, *digests]).encode()).hexdigest()[:40]


def _match(uri: str) -> re.Match[str]:
    match = _PART.fullmatch(uri.rpartition("/")[2])
    if match is None:
        raise UserError(f"{uri} is not a part: parts are the files that write_part names")
    return match
