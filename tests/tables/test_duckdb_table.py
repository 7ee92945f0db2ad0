"""Tables in DuckDB files."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.tables.places import make_place, make_rows, make_spec, write


@pytest.mark.parametrize(
    "rest", ["", "/tmp/x.db", "/tmp/x.db?table=", "?table=a", "/tmp/x.db?table=a b", "/x?table=a&b=c"]
)
def test_malformed_duckdb_names_are_refused(rest: str) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    with pytest.raises(
        UserError, match=r"is not a DuckDB table: write duckdb:///folder/file\.db\?table=name"
    ):
        open_table(f"duckdb://{rest}", make_spec())


def test_duckdb_has_one_writer_and_says_so(tmp_path: Path) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    connect = f"c = duckdb.connect('{tmp_path}/a.db')"
    code = f"import duckdb, sys; {connect}; print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(
            UserError, match=rf"is open in process {holder.pid}, and DuckDB has one writer: run again"
        ):
            open_table(f"duckdb://{tmp_path}/a.db?table=t", make_spec())
        holder.communicate(b"")


@pytest.mark.parametrize("name", ["a.db", "clips.csv", "rows.json"])
def test_a_file_that_is_not_duckdbs_is_left_alone(name: str, tmp_path: Path) -> None:
    """DuckDB opens a CSV as a database in memory, whose tables would be lost."""
    from w2v2.errors import UserError
    from w2v2.tables.table import exists, open_table

    text = "uri,label\na.wav,b\n" * 1000
    (tmp_path / name).write_text(text)
    uri = f"duckdb://{tmp_path}/{name}?table=t"
    for use in (lambda: open_table(uri, make_spec()), lambda: exists(uri)):
        with pytest.raises(
            UserError, match=r"cannot be opened: .* does not begin as a DuckDB file does; give a file"
        ):
            use()
    assert (tmp_path / name).read_text() == text


DAMAGES = {
    "header": lambda body: body[:5000] + bytes([body[5000] ^ 1]) + body[5001:],
    "block": lambda body: body[:13000] + bytes([body[13000] ^ 64]) + body[13001:],
    "zeros": lambda body: body[:12288] + bytes(4096) + body[16384:],
    "cut": lambda body: body[: len(body) // 2],
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_table_is_a_sentence_and_comes_back_from_its_parts(
    kind: str, tmp_path: Path, servers: Any
) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    place = make_place("duckdb", tmp_path, servers)
    parts = write(place, make_rows(range(200)))
    open_table(place.uri, make_spec()).commit(parts)
    wanted = open_table(place.uri, make_spec()).read().sort_by("clip_id")
    path = tmp_path / "sub" / "file.db"
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    with pytest.raises(UserError) as error:
        open_table(place.uri, make_spec()).commit(parts)
    assert f"put a copy of {path} back, or delete it and run the same command again" in str(error.value)
    assert "\n" not in str(error.value)
    path.unlink()
    open_table(place.uri, make_spec()).commit(parts)
    assert open_table(place.uri, make_spec()).read().sort_by("clip_id") == wanted


def test_a_damaged_log_of_a_killed_writer_is_a_sentence(tmp_path: Path) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    uri, path, wal = f"duckdb://{tmp_path}/a.db?table=t", tmp_path / "a.db", tmp_path / "a.db.wal"
    open_table(uri, make_spec())
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE other AS SELECT range AS a FROM range(1000)").fetchall()
        body, log = path.read_bytes(), wal.read_bytes()  # what SIGKILL would leave now
    for number in range(0, len(log), max(1, len(log) // 12)):
        path.write_bytes(body)
        wal.write_bytes(log[:number] + bytes([log[number] ^ 4]) + log[number + 1 :])
        try:
            open_table(uri, make_spec())
        except UserError as error:
            assert "is damaged" in str(error) or "cannot be opened" in str(error)
            assert str(path) in str(error) and "\n" not in str(error)


def test_duckdb_answers_the_documented_query(tmp_path: Path, servers: Any) -> None:
    from w2v2.tables.table import open_table

    place = make_place("duckdb", tmp_path, servers)
    open_table(place.uri, make_spec()).commit(write(place, make_rows(range(5))))
    wanted = make_rows(range(5))["embedding"][3].as_py()
    with duckdb.connect(str(tmp_path / "sub/file.db")) as connection:
        similarity = "list_cosine_similarity(embedding, ?::FLOAT[])"
        sql = f"SELECT clip_id FROM embeddings WHERE model = ? ORDER BY {similarity} DESC"
        assert connection.execute(sql, ["a", wanted]).fetchall()[0] == ("clip'3",)


@pytest.mark.parametrize("num_bytes", [0, 100, 4096, 8192, 12_287])
def test_what_a_full_disk_left_is_made_anew(tmp_path: Path, num_bytes: int) -> None:
    from w2v2.tables.table import open_table

    duckdb.connect(str(tmp_path / "whole.db")).close()
    (tmp_path / "a.db").write_bytes((tmp_path / "whole.db").read_bytes()[:num_bytes])
    table = open_table(f"duckdb://{tmp_path}/a.db?table=t", make_spec())
    assert table.read().num_rows == 0
    assert not list(tmp_path.glob(".*")), "nothing is left of the making"


def test_a_folder_in_place_of_a_table_is_not_damaged_whatever_its_name(tmp_path: Path) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    path = tmp_path / "WAL FATAL checksum" / "a.db"
    path.mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be opened"):
        open_table(f"duckdb://{path}?table=t", make_spec())


def test_a_short_file_that_is_not_duckdbs_is_left_alone(tmp_path: Path) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    (tmp_path / "a.db").write_text("notes")
    with pytest.raises(UserError, match="cannot be opened"):
        open_table(f"duckdb://{tmp_path}/a.db?table=t", make_spec())
    assert (tmp_path / "a.db").read_text() == "notes"


def test_a_database_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    def full(path: str, *_: object) -> None:
        Path(path).write_bytes(bytes(5_000))
        raise duckdb.IOException("IO Error: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(duckdb, "connect", full)
        with pytest.raises(UserError, match="No space left"):
            open_table(f"duckdb://{tmp_path}/a.db?table=t", make_spec())
        assert list(tmp_path.iterdir()) == []
    assert open_table(f"duckdb://{tmp_path}/a.db?table=t", make_spec()).read().num_rows == 0


LOSSES = {
    "join": ("count", "FROM staging AS r", "FROM (FROM staging LIMIT 7) AS r"),
    "merge": ("merge", "AND NOT s.w2v2__gone", "AND NOT s.w2v2__gone AND s.clip_id <> 'clip''3'"),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_commit_that_loses_some_rows_is_undone(
    kind: str, tmp_path: Path, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from w2v2.errors import UserError
    from w2v2.tables import sql
    from w2v2.tables.spec import Commit
    from w2v2.tables.table import open_table

    place = make_place("duckdb", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    assert table.commit(write(place, make_rows(range(2)))) == Commit(inserted=2)
    parts = write(place, make_rows(range(10)))
    name, whole, with_loss = LOSSES[kind]
    faultless = getattr(sql, name)
    assert whole in faultless(make_spec(), target="t", staging="staging", quote='"')
    with monkeypatch.context() as patch:
        patch.setattr(sql, name, lambda *args, **names: faultless(*args, **names).replace(whole, with_loss))
        with pytest.raises(
            UserError, match=r"DuckDB has 7 of the (10|8) rows of a commit, which is undone: report this"
        ):
            table.commit(parts)

    assert len(table.read(["clip_id"])) == 2
    assert table.commit(parts) == Commit(inserted=8, unchanged=2)


def test_rows_that_are_all_new_are_appended_and_none_may_be_lost(
    tmp_path: Path, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from w2v2.errors import UserError
    from w2v2.tables import sql
    from w2v2.tables.spec import Commit
    from w2v2.tables.table import open_table

    place = make_place("duckdb", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    assert table.commit(write(place, make_rows(range(2)))) == Commit(inserted=2)
    parts = write(place, make_rows(range(2, 10)))
    insert = sql.insert
    with monkeypatch.context() as patch:
        patch.setattr(sql, "insert", lambda *args, **names: f"{insert(*args, **names)} LIMIT 7")
        with pytest.raises(UserError, match=r"DuckDB has 7 of the 8 rows of a commit, which is undone"):
            table.commit(parts)
        assert len(table.read(["clip_id"])) == 2
    with monkeypatch.context() as patch:
        patch.setattr(sql, "merge", None)
        assert table.commit(parts) == Commit(inserted=8)
    assert table.commit(write(place, make_rows(range(12)))) == Commit(inserted=2, unchanged=10)
    assert sorted(table.read(["clip_id"])["clip_id"].to_pylist()) == sorted(f"clip'{n}" for n in range(12))
