"""One contract for the three back ends, and what is each one's own.

Expected tables come from `fold`, an independent model: a dict of the newest row of each key.
"""

import asyncio
import datetime
import functools
import itertools
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.cloud.bigquery import FakeBigQuery, bigquery_environment
from tests.cloud.gcs import FakeGcs, gcs_environment

ROOT = Path(__file__).resolve().parents[1]
DIM = 3
KINDS = ("duckdb", "parquet", "parquet-gs", "bigquery", "bigquery-local")


@dataclass
class Place:
    """A table's uri, a folder for its parts, and the servers behind them."""

    kind: str
    uri: str
    parts: str
    gcs: FakeGcs
    bigquery: FakeBigQuery


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeGcs, FakeBigQuery]]:
    with FakeGcs("bucket") as gcs, FakeBigQuery(gcs) as bigquery:
        bigquery.create_dataset("my-project", "speech")
        for name, value in {**gcs_environment(gcs), **bigquery_environment(bigquery)}.items():
            monkeypatch.setenv(name, value)
        # The clients' own pauses, without the waiting: sockets and threads do not use this function.
        pause, later = time.sleep, asyncio.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: pause(min(seconds, 0.001)))
        monkeypatch.setattr(asyncio, "sleep", lambda seconds, result=None: later(min(seconds, 0.001), result))
        yield gcs, bigquery


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, servers: tuple[FakeGcs, FakeBigQuery]) -> Place:
    return make_place(request.param, tmp_path, servers)


def make_place(kind: str, folder: Path, servers: tuple[FakeGcs, FakeBigQuery]) -> Place:
    uris = {
        "duckdb": f"duckdb://{folder}/sub/file.db?table=embeddings",
        "parquet": f"{folder}/table",
        "parquet-gs": "gs://bucket/tables/one",
        "bigquery": "bq://my-project.speech.embeddings",
        "bigquery-local": "bq://my-project.speech.embeddings",
    }
    remote = kind in ("parquet-gs", "bigquery")
    return Place(kind, uris[kind], "gs://bucket/run/parts" if remote else f"{folder}/run/parts", *servers)


@functools.cache
def make_spec() -> Any:
    from w2v2.table_spec import embeddings_spec

    return embeddings_spec(carried=["label"])


def at(minute: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC) + datetime.timedelta(minutes=minute)


def make_rows(
    clips: range,
    *,
    minute: int = 0,
    model: str = "a",
    audio: str = "x",
    dim: int = DIM,
    windows: int = 1,
) -> pa.Table:
    """Rows whose vectors follow from clip, model and audio, as those of an encoder do."""
    rows = []
    for clip, window in itertools.product(clips, range(windows)):
        rng = np.random.default_rng([clip, ord(model), ord(audio), window])
        rows.append(
            {
                "clip_id": f"clip'{clip}",
                "model": model,
                "model_digest": f"sha-{model}",
                "pooling": "mean",
                "layer": "last",
                "start_s": clip % 2 / 10 + window,
                "end_s": None if clip % 3 else 1.5,
                "dim": dim,
                "embedding": rng.standard_normal(dim).astype(np.float32).tolist(),
                "uri": f"gs://b/{clip}.wav",
                "checksum": f"{audio}{clip}",
                "sample_rate": 16_000,
                "duration_s": 1.5,
                "label": 'angry "`;--' if clip % 2 else None,
                "run_id": f"run{minute}",
                "code_version": "1",
                "created_at": at(minute),
            }
        )
    return pa.Table.from_pylist(rows, schema=make_spec().schema)


def write(place: Place, *tables: pa.Table) -> list[str]:
    from w2v2.table_parts import write_part

    return [write_part(place.parts, table, spec=make_spec()) for table in tables]


def fold(*tables: pa.Table) -> list[dict[str, Any]]:
    """What a table holds after any commits of these rows: the newest of each clip, model and layer, in order."""
    newest: dict[tuple[Any, ...], dict[float, dict[str, Any]]] = {}
    for table in tables:
        for row in table.to_pylist():
            own = newest.setdefault(tuple(row[n] for n in ("clip_id", "model", "pooling", "layer")), {})
            if any(other["created_at"] < row["created_at"] for other in own.values()):
                own.clear()
            if all(other["created_at"] == row["created_at"] for other in own.values()):
                own[row["start_s"]] = row
    return [own[start_s] for _, own in sorted(newest.items()) for start_s in sorted(own)]


def rows_of(table: Any) -> list[dict[str, Any]]:
    rows = table.read().to_pylist()
    return sorted(rows, key=lambda row: [row[name] for name in make_spec().key])


def counts(commit: Any) -> tuple[int, int, int, int]:
    return commit.inserted, commit.replaced, commit.unchanged, commit.stale


# -- the contract


def test_rows_come_back_bit_for_bit(place: Place) -> None:
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    assert table.read().num_rows == 0
    assert table.read().schema.equals(make_spec().schema)
    rows = [make_rows(range(7)), make_rows(range(7, 12))]
    assert counts(table.commit(write(place, *rows))) == (12, 0, 0, 0)
    assert rows_of(table) == fold(*rows)
    assert table.read().schema.equals(make_spec().schema)
    again = open_table(place.uri, make_spec())
    assert rows_of(again) == fold(*rows)


def test_the_same_commit_again_changes_nothing(place: Place) -> None:
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    parts = write(place, make_rows(range(5)), make_rows(range(5, 8)))
    assert parts == write(place, make_rows(range(5)), make_rows(range(5, 8)))
    table.commit(parts)
    for order in (parts, parts[::-1]):
        assert counts(open_table(place.uri, make_spec()).commit(order)) == (0, 0, 8, 0)
    assert counts(table.commit([])) == (0, 0, 0, 0)
    assert rows_of(table) == fold(make_rows(range(8)))


def test_a_second_model_adds_and_changed_audio_replaces(place: Place) -> None:
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    first = make_rows(range(6))
    other_model = make_rows(range(6), minute=1, model="b", dim=5)
    changed = make_rows(range(4, 9), minute=2, audio="y")
    table.commit(write(place, first))
    assert counts(table.commit(write(place, other_model))) == (6, 0, 0, 0)
    assert counts(table.commit(write(place, changed))) == (3, 2, 0, 0)
    assert rows_of(table) == fold(first, other_model, changed)


def test_an_old_run_again_does_not_bring_old_rows_back(place: Place) -> None:
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    old, new, back = (
        make_rows(range(4), minute=m, audio=audio) for m, audio in ((0, "x"), (1, "y"), (2, "x"))
    )
    old_parts = write(place, old)
    table.commit(old_parts)
    table.commit(write(place, new))
    assert counts(table.commit(old_parts)) == (0, 0, 0, 4)
    assert rows_of(table) == fold(new)
    assert counts(table.commit(write(place, back))) == (0, 4, 0, 0)
    assert rows_of(table) == fold(back)


def test_a_clip_in_two_parts_counts_once_and_the_later_stands(place: Place) -> None:
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    early, late = make_rows(range(5)), make_rows(range(3, 6), minute=1, audio="y")
    assert counts(table.commit(write(place, early, late))) == (6, 0, 0, 0)
    assert rows_of(table) == fold(early, late)


@pytest.mark.parametrize(("before", "after"), [(5, 2), (2, 5), (3, 3)])
def test_windows_of_changed_audio_replace_all_those_before(place: Place, before: int, after: int) -> None:
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    long = make_rows(range(4), windows=before)
    short = make_rows(range(2, 6), minute=1, audio="y", windows=after)
    parts = [write(place, long), write(place, short)]
    table.commit(parts[0])
    commit = table.commit(parts[1])
    gone, more = 2 * max(0, before - after), 2 * max(0, after - before)
    assert counts(commit) == (2 * after + more, 2 * min(before, after), 0, 0)
    assert commit.removed == gone
    assert rows_of(table) == fold(long, short)
    # In any order, once or twice, and both in one: the same table.
    again = table.commit(parts[0])
    assert (counts(again), again.removed) == ((0, 0, 2 * before, 2 * before), 0)
    assert counts(table.commit([*parts[1], *parts[0]])) == (0, 0, 2 * before + 4 * after, 0)
    assert rows_of(table) == fold(long, short)


def test_read_takes_columns_and_conditions(place: Place) -> None:
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    table.commit(write(place, make_rows(range(120)), make_rows(range(4), model="b", dim=2)))
    found = table.read(["clip_id", "checksum"], where={"model": "b", "sample_rate": 16_000, "start_s": 0.1})
    assert sorted(map(tuple, map(dict.values, found.to_pylist()))) == [("clip'1", "x1"), ("clip'3", "x3")]
    assert found.column_names == ["clip_id", "checksum"]
    assert table.read(["clip_id"], where={"model": "'; DROP TABLE embeddings; --"}).num_rows == 0
    # More rows than the fake puts on one page.
    assert table.read(["start_s"], where={"model": "a"}).num_rows == 120


def test_two_dims_under_one_model_are_refused(place: Place) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    table.commit(write(place, make_rows(range(3))))
    with pytest.raises(
        UserError, match=r"would hold vectors of dim 3 and 4 for model='a', pooling='mean': name"
    ):
        table.commit(write(place, make_rows(range(7, 9), dim=4)))
    assert rows_of(table) == fold(make_rows(range(3)))


def test_an_existing_table_with_other_columns_is_refused_and_told_how(place: Place) -> None:
    from w2v2.config import UserError
    from w2v2.table_spec import TableSpec, embeddings_spec
    from w2v2.tables import open_table

    open_table(place.uri, make_spec())
    with pytest.raises(
        UserError, match=r"exists with other columns: it lacks speaker \(\w+\), has label \(\w+\) too"
    ):
        open_table(place.uri, embeddings_spec(carried=["speaker"]))
    fields = [pa.field("dim", pa.string()) if f.name == "dim" else f for f in make_spec().schema]
    other = TableSpec(schema=pa.schema(fields), key=("clip_id",))
    with pytest.raises(UserError, match=r"it has dim as \w+ where \w+ is needed; use another table"):
        open_table(place.uri, other)


def test_whether_a_table_exists_is_told_and_nothing_is_made(place: Place) -> None:
    from w2v2.tables import exists, open_table

    assert [exists(place.uri) for _ in range(2)] == [False, False]
    open_table(place.uri, make_spec())
    assert exists(place.uri)
    assert not exists(f"{place.uri}_rejects")


def test_other_tables_have_their_own_schema_and_key(place: Place) -> None:
    from w2v2.table_parts import write_part
    from w2v2.table_spec import TIMESTAMP, TableSpec, rejects_spec
    from w2v2.tables import open_table

    predictions = pa.schema(
        [
            ("clip_id", pa.string()),
            ("right", pa.bool_()),
            ("day", pa.date32()),
            ("prob", pa.float64()),
            ("at", TIMESTAMP),
        ]
    )
    spec = TableSpec(schema=predictions, key=("clip_id",), newest_by="at", partition_by="day")
    values = {"clip_id": "c", "right": True, "day": datetime.date(2026, 2, 3), "prob": 1 / 3, "at": at(0)}
    reject = {
        "run_id": "r",
        "clip_id": "c",
        "uri": "u",
        "reason": "empty",
        "code_version": "1",
        "created_at": at(1),
    }
    for name, spec_, row in (("predictions", spec, values), ("rejects", rejects_spec(), reject)):
        uri = place.uri.replace("embeddings", name) + ("" if "embeddings" in place.uri else name)
        table = open_table(uri, spec_)
        table.commit([write_part(place.parts, pa.Table.from_pylist([row], schema=spec_.schema), spec=spec_)])
        assert table.read().to_pylist() == [row]


def test_damaged_and_foreign_parts_are_refused(place: Place, tmp_path: Path) -> None:
    from w2v2.config import UserError
    from w2v2.storage import read_bytes, write_bytes
    from w2v2.tables import open_table

    table = open_table(place.uri, make_spec())
    with pytest.raises(UserError, match=r"x\.parquet is not a part: parts are the files"):
        table.commit([f"{place.parts}/x.parquet"])
    part = write(place, make_rows(range(3)))[0]
    data = bytearray(read_bytes(part))
    data[50] ^= 1
    write_bytes(part, bytes(data))
    if place.kind != "bigquery":  # There Google reads the part, and checks its own checksums.
        with pytest.raises(UserError, match="is damaged: delete it and run the same command again"):
            table.commit([part])
        assert table.read().num_rows == 0


# -- parts and specs


def test_a_part_is_named_by_its_content_and_listed(tmp_path: Path) -> None:
    from w2v2.table_parts import list_parts, num_rows, read_part, write_id, write_part

    folder = str(tmp_path / "parts")
    assert list_parts(folder) == []
    one, two = (write_part(folder, make_rows(range(n)), spec=make_spec()) for n in (2, 5))
    assert one == write_part(folder, make_rows(range(2)), spec=make_spec())
    assert one.endswith("-2.parquet")
    (tmp_path / "parts" / "other.parquet").write_bytes(b"")
    assert list_parts(folder) == sorted([one, two])
    assert num_rows([one, two]) == 7
    assert read_part(two, ["clip_id"]).column_names == ["clip_id"]
    assert read_part(two, make_spec().schema.names).to_pylist() == make_rows(range(5)).to_pylist()
    assert write_id("t", [one, two]) == write_id("t", [two, one]) != write_id("u", [one, two])
    assert write_id("t", [one]) != write_id("t", [one, two])


def changed(column: str, values: list[Any]) -> pa.Table:
    rows = make_rows(range(len(values)))
    index = rows.column_names.index(column)
    return rows.set_column(index, rows.schema.field(column), pa.array(values, rows.schema.field(column).type))


ONES, NAN, INF = [1.0] * DIM, [1.0, float("nan"), 1.0], [float("-inf"), 1.0, 1.0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            changed("embedding", [ONES, NAN, INF]),
            r"clip_id=\"clip'1\".*\(and 1 more\): embedding has a NaN or infinite",
        ),
        (
            changed("embedding", [ONES, [1.0, None, 2.0]]),
            r"clip'1.*\(and 0 more\): embedding has a NaN or infinite",
        ),
        (changed("embedding", [ONES, None]), "embedding is null, and every row needs one"),
        (changed("embedding", [ONES, [1.0, 2.0]]), "clip'1.* dim differs from the length of embedding"),
        (changed("start_s", [0.0, None]), "start_s is null"),
        (changed("created_at", [None]), "created_at is null"),
        (changed("start_s", [float("nan")]), "start_s is NaN or infinite: write null where it is unknown"),
        (changed("end_s", [1.0, float("inf")]), "end_s is NaN or infinite"),
        (
            pa.concat_tables([make_rows(range(3)), make_rows(range(2, 3))]),
            "this key stands in more than one row",
        ),
        (
            pa.concat_tables(
                [make_rows(range(1), windows=2), make_rows(range(2), minute=1).slice(1)]
            ).set_column(0, "clip_id", pa.array(["c"] * 3)),
            "clip_id='c'.*: created_at differs between rows of one clip_id, model, pooling, layer, which are computed",
        ),
        (
            make_rows(range(1)).drop_columns(["label", "uri"]),
            "lack the columns uri, label; they have clip_id",
        ),
    ],
)
def test_rows_that_no_table_may_have_are_refused(tmp_path: Path, rows: pa.Table, message: str) -> None:
    from w2v2.config import UserError
    from w2v2.table_parts import list_parts, write_part

    with pytest.raises(UserError, match=message):
        write_part(str(tmp_path), rows, spec=make_spec())
    assert list_parts(str(tmp_path)) == []


def test_columns_named_by_data_never_become_sql() -> None:
    from w2v2.config import UserError
    from w2v2.table_spec import embeddings_spec

    for name in ("a b", 'a"', "a`", "1a", "", "a" * 129, "a;--", "\u00e9"):
        with pytest.raises(UserError, match=r"cannot stand in a table: use letters, digits and _"):
            embeddings_spec(carried=[name])
    with pytest.raises(UserError, match="columns Label, label are one and the same in a table"):
        embeddings_spec(carried=["Label", "label"])


@pytest.mark.parametrize(
    "uri",
    [
        "bq://p.d.t` WHERE 1=1; DROP TABLE x; --",
        "bq://my-project.speech",
        "bq://my-project.speech.a.b",
        "bq://My_Project.speech.a",
        "bq://my-project.sp-eech.a",
        "bq://my-project.speech.a/../b",
        "bq://my-project.speech.table\n",
    ],
)
def test_malformed_bigquery_names_are_refused(uri: str) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    with pytest.raises(UserError, match=r"is not a BigQuery table: write bq://project\.dataset\.table"):
        open_table(uri, make_spec())


@pytest.mark.parametrize(
    "rest", ["", "/tmp/x.db", "/tmp/x.db?table=", "?table=a", "/tmp/x.db?table=a b", "/x?table=a&b=c"]
)
def test_malformed_duckdb_names_are_refused(rest: str) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    with pytest.raises(
        UserError, match=r"is not a DuckDB table: write duckdb:///folder/file\.db\?table=name"
    ):
        open_table(f"duckdb://{rest}", make_spec())


@pytest.mark.parametrize("uri", ["s3://bucket/table", "foo:bar", "bq:my-project.speech.a", "gs:/bucket/a"])
def test_other_schemes_are_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from w2v2.config import UserError
    from w2v2.tables import exists, open_table

    monkeypatch.chdir(tmp_path)
    for ask in (lambda: open_table(uri, make_spec()), lambda: exists(uri)):
        with pytest.raises(
            UserError, match=rf"table '{uri}' is none of bq://project\.dataset\.table, duckdb://"
        ):
            ask()
    assert not list(tmp_path.iterdir())


# -- DuckDB


def test_duckdb_has_one_writer_and_says_so(tmp_path: Path) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

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


def test_a_file_that_is_not_duckdbs_is_left_alone(tmp_path: Path) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    (tmp_path / "a.db").write_text("hello" * 1000)
    with pytest.raises(UserError, match=r"cannot be opened: .*not a valid DuckDB database"):
        open_table(f"duckdb://{tmp_path}/a.db?table=t", make_spec())
    assert (tmp_path / "a.db").read_text() == "hello" * 1000


def test_duckdb_answers_the_documented_query(tmp_path: Path, servers: Any) -> None:
    from w2v2.tables import open_table

    place = make_place("duckdb", tmp_path, servers)
    open_table(place.uri, make_spec()).commit(write(place, make_rows(range(5))))
    wanted = make_rows(range(5))["embedding"][3].as_py()
    with duckdb.connect(str(tmp_path / "sub/file.db")) as connection:
        similarity = "list_cosine_similarity(embedding, ?::FLOAT[])"
        sql = f"SELECT clip_id FROM embeddings WHERE model = ? ORDER BY {similarity} DESC"
        assert connection.execute(sql, ["a", wanted]).fetchall()[0] == ("clip'3",)


# -- the Parquet folder


def test_plain_readers_see_the_table_and_nothing_else(tmp_path: Path, servers: Any) -> None:
    from w2v2.tables import open_table

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
    from w2v2.table_parquet import ParquetTable
    from w2v2.tables import open_table

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
    from w2v2 import storage

    files = [info.uri for info in storage.list_files(place.uri, suffixes=(".parquet",))]
    assert len(files) == len(table._newest().files)


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    (tmp_path / "a.wav").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"has files \(a\.wav\) but no manifest of a table: give an empty folder"
    ):
        open_table(str(tmp_path), make_spec())


# -- BigQuery


@pytest.fixture
def bq(tmp_path: Path, servers: Any) -> Place:
    return make_place("bigquery", tmp_path, servers)


def test_bigquery_table_is_partitioned_clustered_and_left_alone(bq: Place) -> None:
    from w2v2.tables import open_table

    table = open_table(bq.uri, make_spec())
    table.commit(write(bq, make_rows(range(3))))
    resource = bq.bigquery.resource("my-project", "speech", "embeddings")
    assert resource["timePartitioning"] == {"field": "created_at", "type": "DAY"}
    assert resource["clustering"] == {"fields": ["model", "pooling", "clip_id"]}
    kinds = {each["name"]: (each["type"], each["mode"]) for each in resource["schema"]["fields"]}
    assert kinds["embedding"] == ("FLOAT", "REPEATED")
    assert kinds["start_s"] == ("FLOAT", "NULLABLE")
    assert bq.bigquery.tables() == ["embeddings"]


def test_bigquery_runs_one_load_and_one_merge_for_many_parts(bq: Place) -> None:
    from w2v2.tables import open_table

    table = open_table(bq.uri, make_spec())
    parts = write(bq, *(make_rows(range(n, n + 1)) for n in range(9)))
    table.commit(parts)
    assert [re.sub("[0-9a-f]{40}", "*", name) for name in bq.bigquery.written_jobs()] == [
        "w2v2_load_*_0",
        "w2v2_merge_*_0",
    ]
    table.commit(parts)
    # The first load's staging table is gone, so its id is stepped over; nothing is left to merge.
    assert [re.sub("[0-9a-f]{40}", "*", name) for name in bq.bigquery.written_jobs()][2:] == ["w2v2_load_*_1"]


@pytest.mark.parametrize("reason", ["backendError", "rateLimitExceeded", "jobInternalError"])
def test_bigquery_failed_jobs_are_tried_again_under_the_next_id(bq: Place, reason: str) -> None:
    from w2v2.tables import open_table

    table = open_table(bq.uri, make_spec())
    for _ in range(3):
        bq.bigquery.fail_next_job(reason=reason)
    table.commit(write(bq, make_rows(range(4))))
    assert rows_of(table) == fold(make_rows(range(4)))
    assert sum("_load_" in name for name in bq.bigquery.written_jobs()) == 4


def test_bigquery_a_failure_of_an_earlier_run_does_not_stand_in_the_way(bq: Place) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    table, parts = open_table(bq.uri, make_spec()), write(bq, make_rows(range(4)))
    for _ in range(2):
        for _ in range(4):
            bq.bigquery.fail_next_job(reason="backendError")
        with pytest.raises(UserError, match="injected"):
            table.commit(parts)
    bq.bigquery.fail_next_job(reason="quotaExceeded", message="Quota exceeded: too many loads")
    with pytest.raises(
        UserError, match=r"BigQuery's quota stops bq://.*: .*too many loads.*parts are kept, run the same"
    ):
        table.commit(parts)
    assert counts(open_table(bq.uri, make_spec()).commit(parts)) == (4, 0, 0, 0)


def test_bigquery_a_job_that_fails_each_time_is_told(bq: Place) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    table = open_table(bq.uri, make_spec())
    for _ in range(9):
        bq.bigquery.fail_next_job(reason="backendError", message="bad weather")
    with pytest.raises(
        UserError, match=r"BigQuery could not write bq://.*bad weather.*run the same command again"
    ):
        table.commit(write(bq, make_rows(range(4))))
    assert len(bq.bigquery.written_jobs()) == 4


@pytest.mark.parametrize("lost", ["/jobs", "/queries", "/tables"])
def test_bigquery_answers_lost_on_every_call_change_nothing(bq: Place, lost: str) -> None:
    from w2v2.tables import open_table

    bq.bigquery.faults.add(kind="lost_answer", path_contains=lost, count=2)
    bq.bigquery.faults.add(
        kind="status", status=503, reason="serviceUnavailable", path_contains=lost, count=3
    )
    table = open_table(bq.uri, make_spec())
    bq.bigquery.faults.add(kind="lost_answer", path_contains=lost, count=2)
    assert counts(table.commit(write(bq, make_rows(range(4))))) == (4, 0, 0, 0)
    assert rows_of(table) == fold(make_rows(range(4)))
    assert bq.bigquery.faults.unused() == 0
    assert len(bq.bigquery.written_jobs()) == 2


@pytest.mark.parametrize(
    "permission",
    [
        "bigquery.datasets.get",
        "bigquery.tables.create",
        "bigquery.tables.updateData",
        "bigquery.tables.getData",
        "bigquery.jobs.create",
    ],
)
def test_bigquery_a_missing_permission_is_told_before_any_work(bq: Place, permission: str) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    bq.bigquery.deny(permission)
    roles = r"roles/bigquery\.dataEditor on dataset speech and roles/bigquery\.jobUser on project my-project"
    wanted = rf"no permission for bq://.*{permission}.*grant {roles}"
    with pytest.raises(UserError, match=wanted):
        open_table(bq.uri, make_spec())


def test_bigquery_a_missing_dataset_is_told(bq: Place) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    with pytest.raises(
        UserError, match=r"was not found: .*make the dataset first \(bq mk my-project:music\)"
    ):
        open_table("bq://my-project.music.t", make_spec())


def test_bigquery_a_bucket_in_another_location_is_told(bq: Place) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    bq.bigquery.create_dataset("my-project", "europe", location="EU")
    bq.bigquery.bucket_locations["bucket"] = "US"
    table = open_table("bq://my-project.europe.t", make_spec())
    with pytest.raises(
        UserError,
        match=r"and its parts are in two locations: .*source: US, destination: EU; use a bucket",
    ):
        table.commit(write(bq, make_rows(range(2))))
    assert table.read().num_rows == 0


def test_bigquery_a_quota_is_told_at_once(bq: Place) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    bq.bigquery.faults.add(kind="status", status=403, reason="quotaExceeded", path_contains="/jobs", count=1)
    table = open_table(bq.uri, make_spec())
    with pytest.raises(UserError, match=r"BigQuery's quota stops bq://my-project\.speech\.embeddings"):
        table.commit(write(bq, make_rows(range(2))))


def test_bigquery_without_credentials_says_how_to_log_in(
    bq: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(
        UserError, match=r"no Google credentials for bq://.*run gcloud auth application-default login"
    ):
        open_table(bq.uri, make_spec())


def test_bigquery_too_many_parts_are_refused(bq: Place) -> None:
    from w2v2.config import UserError
    from w2v2.tables import open_table

    with pytest.raises(
        UserError, match=r"10001 parts are more than BigQuery loads at once \(10000\): write larger parts"
    ):
        open_table(bq.uri, make_spec()).commit(["x"] * 10_001)


def test_bigquery_large_local_parts_are_uploaded_resumably(
    tmp_path: Path, servers: Any, monkeypatch: Any
) -> None:
    from google.cloud.bigquery import client

    from w2v2.tables import open_table

    monkeypatch.setattr(client, "_MAX_MULTIPART_SIZE", 1000)
    place = make_place("bigquery-local", tmp_path, servers)
    table = open_table(place.uri, make_spec())
    place.bigquery.faults.add(kind="lost_answer", method="PUT", count=1)
    table.commit(write(place, make_rows(range(40)), make_rows(range(40, 50))))
    assert rows_of(table) == fold(make_rows(range(50)))
    assert place.bigquery.faults.unused() == 0


def test_a_dead_network_is_told(bq: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from w2v2 import table_bigquery_jobs
    from w2v2.config import UserError
    from w2v2.tables import open_table

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr(table_bigquery_jobs, "_RETRY_S", 0.2)
        with pytest.raises(UserError, match=r"BigQuery could not write bq://.*run the same command again"):
            open_table(bq.uri, make_spec())
