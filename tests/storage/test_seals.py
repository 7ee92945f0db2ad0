"""Whatever bit of a sealed file flips, its content is what was written or the file is refused."""

import io
import json

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2v2.storage.files import DamagedError
from w2v2.storage.parquet import records, to_parquet, write_record
from w2v2.storage.seals import parse_json, parse_parquet, seal_json

ROWS = pa.table({"clip_id": [f"Actor/{i}" for i in range(20)], "value": [i / 7 for i in range(20)]})


def flips(data: bytes):
    """The bytes with one bit flipped, for every bit."""
    for at in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        yield bytes(damaged)


def test_no_flipped_bit_of_a_parquet_file_changes_a_row():
    data = to_parquet(ROWS, sealed=True)
    num_refused = 0
    for damaged in flips(data):
        try:
            assert parse_parquet("x", damaged).equals(ROWS)
        except DamagedError:
            num_refused += 1
    # In the 8 bytes that mark a seal, a flip leaves a file without one, whose rows are all there.
    assert num_refused >= 8 * (len(data) - 8)
    for cut in range(len(data)):
        with pytest.raises(DamagedError):
            parse_parquet("x", data[:cut])


def test_every_program_reads_a_sealed_file(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(to_parquet(ROWS, sealed=True))
    assert pq.read_table(path).equals(ROWS)
    assert duckdb.sql(f"SELECT count(*), sum(value) FROM '{path}'").fetchall() == [
        (20, pytest.approx(190 / 7))
    ]


def test_files_of_before_are_read_and_their_damage_is_a_sentence():
    data = to_parquet(ROWS)
    assert parse_parquet("x", data).equals(ROWS)
    for damaged in (b"", data[:50], data[:-9] + b"?" + data[-8:], b"PAR1" + bytes(300)):
        with pytest.raises(DamagedError, match="x: damaged: "):
            parse_parquet("x", damaged)


def test_columns_that_a_file_lacks_are_null():
    schema = pa.schema([*ROWS.schema, ("kind", pa.string())])
    assert parse_parquet("x", to_parquet(ROWS, sealed=True), schema)["kind"].null_count == len(ROWS)


def test_no_flipped_bit_of_a_json_file_changes_a_value():
    value = {"crc32c": 4_059_231_220, "state": {"lr": 1.5e-3, "names": ["a", None, True], "7": [1, 2]}}
    text = seal_json(value)
    assert (
        parse_json("x", text.encode()) == value == {k: v for k, v in json.loads(text).items() if k != "seal"}
    )
    for damaged in flips(text.encode()):
        try:
            parsed = parse_json("x", damaged)
        except DamagedError:
            continue
        assert {name: parsed[name] for name in value} == value
    assert parse_json("x", json.dumps(value).encode()) == value
    for damaged in (b"", b"[1]", b"\xff", b"null"):
        with pytest.raises(DamagedError, match="x: damaged"):
            parse_json("x", damaged)
    assert parse_json("x", seal_json({"a": (1, 2), "b": {3: 4}}).encode()) == {"a": [1, 2], "b": {"3": 4}}


def test_a_damaged_record_is_passed_over(tmp_path, caplog):
    write_record(str(tmp_path), ROWS)
    write_record(str(tmp_path), ROWS.slice(3, 1))
    [first, second] = sorted(tmp_path.iterdir(), key=lambda path: -path.stat().st_size)
    body = first.read_bytes()
    assert pq.read_table(io.BytesIO(body)).equals(ROWS)
    for damaged in (body[:40], body[:20] + bytes([body[20] ^ 4]) + body[21:]):
        first.write_bytes(damaged)
        [whole] = records(str(tmp_path), ROWS.schema, num_at_once=2)
        assert whole.equals(ROWS.slice(3, 1))
    assert f"{first}: damaged" in caplog.text and str(second) not in caplog.text
