"""Tables as folders of Parquet files."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.tables.places import at, counts, fold, make_place, make_rows, make_spec, rows_of, write


def test_plain_readers_see_the_table_and_nothing_else(tmp_path: Path, servers: Any) -> None:
    from w2v2.tables.table import open_table

    place = make_place("parquet", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    tables = [
        make_rows(range(5)),
        make_rows(range(3), minute=1, audio="y"),
        make_rows(range(5), minute=2, audio="z"),
    ]
    for rows in tables:
        table.commit(write(place, rows))
    plain = duckdb.sql(
        f"SELECT clip_id, created_at FROM read_parquet('{place.uri}/*.parquet')"
    ).to_arrow_table()
    assert plain.num_rows == 5
    assert pc.min(plain["created_at"]).as_py() == at(2)
    assert [path.name[:8] for path in Path(place.uri).glob("*.parquet")] == ["00000003"]
    assert pq.read_table(place.uri).num_rows == 5


@pytest.mark.parametrize("kind", ["parquet", "parquet-gs"])
def test_two_writers_of_a_folder_lose_nothing(
    kind: str, tmp_path: Path, servers: Any, monkeypatch: Any
) -> None:
    from w2v2.tables.parquet_table import ParquetTable
    from w2v2.tables.table import open_table

    place = make_place(kind, tmp_path, servers)
    table, other = open_table(place.uri, make_spec()), open_table(place.uri, make_spec())
    table.commit(write(place, make_rows(range(3))))
    publish, waiting = (
        ParquetTable._publish,
        [make_rows(range(2), minute=m, audio="y", model=m_) for m, m_ in ((1, "a"), (2, "b"))],
    )

    def overtaken(self: ParquetTable, version: Any) -> bool:
        if self is table and waiting:
            other.commit(write(place, waiting.pop()))
        return publish(self, version)

    monkeypatch.setattr(ParquetTable, "_publish", overtaken)
    mine = make_rows(range(2, 6), minute=3)
    expected = fold(make_rows(range(3)), *waiting, mine)
    assert counts(table.commit(write(place, mine))) == (3, 1, 0, 0)
    assert rows_of(table) == rows_of(other) == expected
    # What the overtaken tries left behind is gone.
    from w2v2.storage import files as storage

    files = [info.uri for info in storage.list_files(place.uri, suffixes=(".parquet",))]
    assert len(files) == len(table._newest().files)


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    (tmp_path / "a.wav").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"has files \(a\.wav\) but no manifest of a table: give an empty folder"
    ):
        open_table(str(tmp_path), make_spec())


def test_no_flipped_bit_of_a_table_changes_a_row(tmp_path: Path, servers: Any) -> None:
    from w2v2.storage.files import DamagedError
    from w2v2.tables.table import open_table

    place = make_place("parquet", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    table.commit(write(place, make_rows(range(4))))
    rows = rows_of(table)
    for path in [*Path(table.uri).rglob("*.parquet"), max(Path(table.uri).rglob("*.json"))]:
        body = path.read_bytes()
        for bit in range(0, len(body), max(1, len(body) // 60)):
            path.write_bytes(body[:bit] + bytes([body[bit] ^ 1 << bit % 8]) + body[bit + 1 :])
            try:
                assert rows_of(table) == rows
            except DamagedError as error:
                assert str(path) in str(error)
        path.write_bytes(body)
