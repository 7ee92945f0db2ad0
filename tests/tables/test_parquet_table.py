"""Tables as folders of Parquet files."""

import shutil
from collections import Counter
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

    files = [info.uri[len(place.uri) + 1 :] for info in storage.list_files(place.uri, suffixes=(".parquet",))]
    named = table._newest().files
    assert sorted(files) == sorted([*named, *(f"_without_vectors/{name}" for name in named)])


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


def test_commits_and_resumed_jobs_read_no_vectors(tmp_path: Path, servers: Any) -> None:
    from w2v2.tables.table import open_table

    place = make_place("parquet-gs", tmp_path, servers)
    tables = [make_rows(range(5)), make_rows(range(5, 9)), make_rows(range(9, 12))]
    first = open_table(place.uri, make_spec())
    for rows in tables[:2]:
        first.commit(write(place, rows))
    files = first._newest().files
    table = open_table(place.uri, make_spec())
    part = write(place, tables[2])
    before = len(place.gcs.requests)
    assert counts(table.commit(part)) == (3, 0, 0, 0)
    assert counts(table.commit(part)) == (0, 0, 3, 0)
    assert table.read(["clip_id", "checksum"], where={"model": "a"}).num_rows == 12
    read = [each.path for each in list(place.gcs.requests)[before:] if each.method == "GET"]
    assert not [
        path for path in read if any(path.endswith(f"%2F{name}") for name in files) and "without" not in path
    ]
    copies = Counter(path for path in read if "_without_vectors" in path)
    assert (
        max(copies[path] for path in copies if any(name in path for name in files)) == 2
    )  # commits once, read once
    assert rows_of(table) == fold(*tables)


@pytest.mark.parametrize("missing", [True, False])
def test_a_copy_without_vectors_that_is_missing_or_damaged_is_made_again(
    missing: bool, tmp_path: Path, servers: Any, caplog: Any
) -> None:
    from w2v2.tables.table import open_table

    place = make_place("parquet", tmp_path, servers)
    older, newer = make_rows(range(4)), make_rows(range(2, 6), minute=1, audio="y")
    open_table(place.uri, make_spec()).commit(write(place, older))
    [copy] = Path(place.uri).glob("_without_vectors/*.parquet")
    body = copy.read_bytes()
    if missing:
        copy.unlink()
    else:
        copy.write_bytes(body[:100] + bytes([body[100] ^ 4]) + body[101:])
    table = open_table(place.uri, make_spec())
    ids = table.read(["clip_id"])["clip_id"].to_pylist()
    assert sorted(ids) == sorted(older["clip_id"].to_pylist())
    assert counts(table.commit(write(place, older))) == (0, 0, 4, 0)
    assert copy.read_bytes() == body
    assert ("its rows are read from" in caplog.text) is not missing
    assert counts(table.commit(write(place, newer))) == (2, 2, 0, 0)
    assert rows_of(table) == fold(older, newer)


def test_no_flipped_bit_of_a_copy_changes_a_commit(tmp_path: Path, servers: Any) -> None:
    from w2v2.tables.table import open_table

    place = make_place("parquet", tmp_path, servers)
    older, newer = make_rows(range(4)), make_rows(range(2, 6), minute=1, audio="y")
    open_table(place.uri, make_spec()).commit(write(place, older))
    [copy] = Path(place.uri).glob("_without_vectors/*.parquet")
    part, body = write(place, newer), copy.read_bytes()
    for bit in range(0, len(body), len(body) // 20):
        copied = shutil.copytree(place.uri, tmp_path / str(bit))
        path = copied / "_without_vectors" / copy.name
        path.write_bytes(body[:bit] + bytes([body[bit] ^ 1 << bit % 8]) + body[bit + 1 :])
        table = open_table(str(copied), make_spec())
        assert counts(table.commit(part)) == (2, 2, 0, 0)
        assert rows_of(table) == fold(older, newer)


def test_parts_are_joined_to_files_of_a_size(tmp_path: Path, servers: Any, monkeypatch: Any) -> None:
    from w2v2.tables import parquet_table
    from w2v2.tables.table import open_table

    place = make_place("parquet", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    tables = [make_rows(range(2 * number, 2 * number + 2)) for number in range(6)]
    assert counts(table.commit(write(place, *tables))) == (12, 0, 0, 0)
    assert len(table._newest().files) == 1
    monkeypatch.setattr(parquet_table, "_FILE_BYTES", 2 * tables[0].nbytes)
    again = [make_rows(range(2 * number, 2 * number + 2), minute=1, audio="y") for number in range(6)]
    assert counts(table.commit(write(place, *again[:1], tables[1], *again[2:]))) == (0, 10, 2, 0)
    assert 4 <= len(table._newest().files) <= 5  # the two rows that stay, and ten new ones from five parts
    assert rows_of(table) == fold(*tables, *again[:1], *again[2:])


def test_a_table_without_its_newest_manifest_is_refused_and_loses_nothing(
    tmp_path: Path, servers: Any
) -> None:
    from w2v2.storage.files import DamagedError
    from w2v2.tables.table import open_table

    place = make_place("parquet", tmp_path, servers)
    tables = [make_rows(range(4)), make_rows(range(4, 9))]
    table = open_table(place.uri, make_spec())
    for rows in tables:
        table.commit(write(place, rows))
    manifests = sorted(Path(place.uri).glob("_manifest/*.json"))
    kept = [path.read_bytes() for path in manifests]
    for gone in (manifests[-1:], manifests):
        for path in gone:
            path.unlink()
        words = rf"{manifests[-1].name}: the newest manifest of the table is missing; restore it"
        with pytest.raises(DamagedError, match=words):
            open_table(place.uri, make_spec())
        with pytest.raises(DamagedError, match=words):
            table.commit(write(place, make_rows(range(2), minute=1)))
        for path, body in zip(manifests, kept, strict=True):
            path.write_bytes(body)
    assert rows_of(open_table(place.uri, make_spec())) == fold(*tables)


def test_a_missing_file_and_a_damaged_manifest_say_what_to_do(tmp_path: Path, servers: Any) -> None:
    from w2v2.storage.files import DamagedError, NotFoundError
    from w2v2.tables.table import open_table

    place = make_place("parquet", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    table.commit(write(place, make_rows(range(4))))
    [data] = Path(place.uri).glob("*.parquet")
    data.rename(tmp_path / "away")
    with pytest.raises(
        NotFoundError, match="the table's manifest names this file, which is not there; restore it"
    ):
        table.read()
    manifest = max(Path(place.uri).glob("_manifest/*.json"))
    manifest.write_text("{")
    with pytest.raises(DamagedError, match=rf"{manifest.name}: damaged: .*; restore it"):
        table.read()


@pytest.mark.parametrize("query", ["newer", "outdated"])
def test_a_commit_that_loses_some_rows_is_undone(
    query: str, tmp_path: Path, servers: Any, monkeypatch: Any
) -> None:
    from w2v2.errors import UserError
    from w2v2.tables import sql
    from w2v2.tables.table import open_table

    place = make_place("parquet", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    older, newer = make_rows(range(4)), make_rows(range(2, 6), minute=1, audio="y")
    table.commit(write(place, older))
    whole = getattr(sql, query)
    monkeypatch.setattr(sql, query, lambda spec, **names: f"{whole(spec, **names)} LIMIT 1")
    with pytest.raises(
        UserError, match=r"DuckDB has 1 of the \d rows of a commit, which is undone: report this"
    ):
        table.commit(write(place, newer))
    monkeypatch.undo()
    assert rows_of(table) == fold(older)
    assert counts(table.commit(write(place, newer))) == (2, 2, 0, 0)
    assert rows_of(table) == fold(older, newer)
