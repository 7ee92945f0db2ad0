"""Seals: checksums inside files that later attempts rely on, so that damaged bytes are noticed and never used.

A sealed Parquet file has its crc32c between the last page and the footer, where no reader looks, so every program
can open it. A sealed JSON object has it under the key `seal`. Files of earlier versions have no seal.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from w2v2.json_types import Json
from w2v2.storage import mapped_tables
from w2v2.storage.uris import DamagedError

_MARK = b"w2v2crc:"
_TAIL = 8
"""Bytes behind a Parquet footer: its length and PAR1."""
_PORTION_BYTES = 2**22
"""Bytes that are copied at a time to compute their checksum."""


def seal_in_place(sink: io.BytesIO) -> None:
    """Put a seal before the footer of a Parquet file that is written in memory: large files are not copied."""
    with sink.getbuffer() as data:
        at = _footer_place(data)
        seal, footer = _MARK + _crc(data), bytes(data[at:])
    sink.seek(at)
    sink.write(seal + footer)


def parse_parquet(uri: str, data: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """The rows of a Parquet file, with the columns of the schema (null where the file lacks one); a large table is memory-mapped.

    Raises DamagedError where the seal does not match, or the bytes are not a Parquet file.
    """
    _check_seal(uri, data)
    try:
        about = pq.read_metadata(pa.BufferReader(data))
        if _num_bytes(about) <= mapped_tables.HELD_BYTES:
            return _read(data, schema)
        wanted = about.schema.to_arrow_schema() if schema is None else schema
        return mapped_tables.from_columns((_read(data, schema, [name]) for name in wanted.names), wanted)
    except Exception as error:  # of any type: a wrong byte in a file without a seal can raise anything
        raise DamagedError(f"{uri}: damaged: {_first_line(error)}") from error


def _read(data: bytes, schema: pa.Schema | None, columns: list[str] | None = None) -> pa.Table:
    source = pa.BufferReader(data)
    return pq.read_table(source, columns=columns, schema=schema, page_checksum_verification=True)


def _num_bytes(about: pq.FileMetaData) -> int:
    """The bytes of all columns, before compression."""
    return sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))


def seal_json(value: Mapping[str, Json], *, indent: int | None = None) -> str:
    """The object as JSON, with a seal over its keys and values."""
    as_read = json.loads(json.dumps(dict(value)))  # as in JSON: keys are strings, tuples are lists
    return json.dumps({**as_read, "seal": _json_seal(as_read)}, indent=indent)


def parse_json(uri: str, data: bytes) -> dict[str, Any]:
    """The object of a JSON file, without its seal.

    Raises DamagedError where the seal does not match, or the bytes are not a JSON object.
    """
    value = load_json(uri, data)
    seal = value.pop("seal", None)
    if seal is not None and seal != _json_seal(value):
        raise DamagedError(f"{uri}: damaged: its checksum differs")
    return value


def load_json(uri: str, data: bytes) -> dict[str, Any]:
    """The object of a JSON file, its seal not checked. Raises DamagedError where the bytes are not a JSON object."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise DamagedError(f"{uri}: damaged: {_first_line(error)}") from error
    if not isinstance(value, dict):
        raise DamagedError(f"{uri}: damaged: a {type(value).__name__}, where an object was wanted")
    return value


def _footer_place(data: bytes | memoryview) -> int:
    return len(data) - _TAIL - int.from_bytes(data[-_TAIL:-4], "little")


def _check_seal(uri: str, data: bytes) -> None:
    at = _footer_place(data)
    begin = at - len(_MARK) - 4
    if begin < 0 or data[begin : begin + len(_MARK)] != _MARK:
        if _MARK in data:  # the footer's length, or what is around the seal, has changed
            raise DamagedError(f"{uri}: damaged: its seal is not where it was put")
        return
    view = memoryview(data)
    if data[at - 4 : at] != _crc(view[:begin], view[at:]):
        raise DamagedError(f"{uri}: damaged: its checksum differs")


def _crc(*parts: memoryview) -> bytes:
    crc = 0
    for portion in (portion for part in parts for portion in _portions(part)):
        crc = google_crc32c.extend(crc, portion)
    return crc.to_bytes(4, "big")


def _portions(data: memoryview) -> Iterator[bytes]:
    return (bytes(data[at : at + _PORTION_BYTES]) for at in range(0, len(data), _PORTION_BYTES))


def _json_seal(value: Mapping[str, Json]) -> str:
    text = json.dumps(value, sort_keys=True)
    return f"{google_crc32c.value(text.encode()):08x}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
