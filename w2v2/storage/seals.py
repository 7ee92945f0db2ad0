"""Seals: checksums inside files that later attempts rely on, so that damaged bytes are noticed and never used.

A sealed Parquet file has its crc32c between the last page and the footer, where no reader looks, so every program
can open it. A sealed JSON object has it under the key `seal`. Files of earlier versions have no seal.
"""

import json
from collections.abc import Mapping
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from w2v2.json_types import Json
from w2v2.storage.uris import DamagedError

_MARK = b"w2v2crc:"
_TAIL = 8
"""Bytes behind a Parquet footer: its length and PAR1."""


def seal_parquet(data: bytes) -> bytes:
    """The Parquet file with a seal before its footer."""
    at = len(data) - _TAIL - int.from_bytes(data[-_TAIL:-4], "little")
    return data[:at] + _MARK + _crc(data) + data[at:]


def parse_parquet(uri: str, data: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """The rows of a Parquet file, with the columns of the schema (null where the file lacks one).

    Raises DamagedError where the seal does not match, or the bytes are not a Parquet file.
    """
    _check_seal(uri, data)
    try:
        return pq.read_table(pa.BufferReader(data), schema=schema, page_checksum_verification=True)
    except Exception as error:  # of any type: a wrong byte in a file without a seal can raise anything
        raise DamagedError(f"{uri}: damaged: {_first_line(error)}") from error


def seal_json(value: Mapping[str, Json], *, indent: int | None = None) -> str:
    """The object as JSON, with a seal over its keys and values."""
    as_read = json.loads(json.dumps(dict(value)))  # as JSON has them: keys are strings, tuples are lists
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


def _check_seal(uri: str, data: bytes) -> None:
    at = len(data) - _TAIL - int.from_bytes(data[-_TAIL:-4], "little")
    begin = at - len(_MARK) - 4
    if begin < 0 or data[begin : begin + len(_MARK)] != _MARK:
        if _MARK in data:  # the footer's length, or what is around the seal, has changed
            raise DamagedError(f"{uri}: damaged: its seal is not where it was put")
        return
    if data[at - 4 : at] != _crc(data[:begin] + data[at:]):
        raise DamagedError(f"{uri}: damaged: its checksum differs")


def _crc(data: bytes) -> bytes:
    return google_crc32c.value(data).to_bytes(4, "big")


def _json_seal(value: Mapping[str, Json]) -> str:
    text = json.dumps(value, sort_keys=True)
    return f"{google_crc32c.value(text.encode()):08x}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
