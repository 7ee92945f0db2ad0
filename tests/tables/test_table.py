"""What every table promises, whatever keeps it."""

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from tests.tables.places import Place, at, counts, fold, make_rows, make_spec, rows_of, write


def test_rows_come_back_bit_for_bit(place: Place) -> None:
    from w2v2.tables.table import open_table

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
    from w2v2.tables.table import open_table

    table = open_table(place.uri, make_spec())
    parts = write(place, make_rows(range(5)), make_rows(range(5, 8)))
    assert parts == write(place, make_rows(range(5)), make_rows(range(5, 8)))
    table.commit(parts)
    for order in (parts, parts[::-1]):
        assert counts(open_table(place.uri, make_spec()).commit(order)) == (0, 0, 8, 0)
    assert counts(table.commit([])) == (0, 0, 0, 0)
    assert rows_of(table) == fold(make_rows(range(8)))


def test_a_second_model_adds_and_changed_audio_replaces(place: Place) -> None:
    from w2v2.tables.table import open_table

    table = open_table(place.uri, make_spec())
    first = make_rows(range(6))
    other_model = make_rows(range(6), minute=1, model="b", dim=5)
    changed = make_rows(range(4, 9), minute=2, audio="y")
    table.commit(write(place, first))
    assert counts(table.commit(write(place, other_model))) == (6, 0, 0, 0)
    assert counts(table.commit(write(place, changed))) == (3, 2, 0, 0)
    assert rows_of(table) == fold(first, other_model, changed)


def test_an_old_run_again_does_not_bring_old_rows_back(place: Place) -> None:
    from w2v2.tables.table import open_table

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


def test_a_clip_in_two_parts_counts_once_and_the_later_is_kept(place: Place) -> None:
    from w2v2.tables.table import open_table

    table = open_table(place.uri, make_spec())
    early, late = make_rows(range(5)), make_rows(range(3, 6), minute=1, audio="y")
    assert counts(table.commit(write(place, early, late))) == (6, 0, 0, 0)
    assert rows_of(table) == fold(early, late)


@pytest.mark.parametrize(("before", "after"), [(5, 2), (2, 5), (3, 3)])
def test_windows_of_changed_audio_replace_all_those_before(place: Place, before: int, after: int) -> None:
    from w2v2.tables.table import open_table

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
    from w2v2.tables.table import open_table

    table = open_table(place.uri, make_spec())
    table.commit(write(place, make_rows(range(120)), make_rows(range(4), model="b", dim=2)))
    rows = table.read(["clip_id", "checksum"], where={"model": "b", "sample_rate": 16_000, "start_s": 0.1})
    assert sorted(map(tuple, map(dict.values, rows.to_pylist()))) == [("clip'1", "x1"), ("clip'3", "x3")]
    assert rows.column_names == ["clip_id", "checksum"]
    assert table.read(["clip_id"], where={"model": "'; DROP TABLE embeddings; --"}).num_rows == 0
    # More rows than the fake puts on one page.
    assert table.read(["start_s"], where={"model": "a"}).num_rows == 120


def test_two_dims_under_one_model_are_refused(place: Place) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    table = open_table(place.uri, make_spec())
    table.commit(write(place, make_rows(range(3))))
    with pytest.raises(
        UserError, match=r"would hold vectors of dim 3 and 4 for model='a', pooling='mean': name"
    ):
        table.commit(write(place, make_rows(range(7, 9), dim=4)))
    assert rows_of(table) == fold(make_rows(range(3)))


def test_an_existing_table_with_other_columns_is_refused_with_what_to_do(place: Place) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.spec import TableSpec, embeddings_spec
    from w2v2.tables.table import open_table

    open_table(place.uri, make_spec())
    with pytest.raises(
        UserError, match=r"exists with other columns: it lacks speaker \(\w+\), has label \(\w+\) too"
    ):
        open_table(place.uri, embeddings_spec(extra_columns=["speaker"]))
    fields = [pa.field("dim", pa.string()) if f.name == "dim" else f for f in make_spec().schema]
    other = TableSpec(schema=pa.schema(fields), key=("clip_id",))
    with pytest.raises(UserError, match=r"it has dim as \w+ where \w+ is needed; use another table"):
        open_table(place.uri, other)


def test_whether_a_table_exists_is_reported_and_nothing_is_made(place: Place) -> None:
    from w2v2.tables.table import exists, open_table

    assert [exists(place.uri) for _ in range(2)] == [False, False]
    open_table(place.uri, make_spec())
    assert exists(place.uri)
    assert not exists(f"{place.uri}_rejects")


def test_other_tables_have_their_own_schema_and_key(place: Place) -> None:
    from w2v2.tables.parts import write_part
    from w2v2.tables.spec import TIMESTAMP, TableSpec, rejects_spec
    from w2v2.tables.table import open_table

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


@pytest.mark.parametrize("uri", ["s3://bucket/table", "foo:bar", "bq:my-project.speech.a", "gs:/bucket/a"])
def test_other_schemes_are_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import exists, open_table

    monkeypatch.chdir(tmp_path)
    for ask in (lambda: open_table(uri, make_spec()), lambda: exists(uri)):
        with pytest.raises(
            UserError, match=rf"table '{uri}' is none of bq://project\.dataset\.table, duckdb://"
        ):
            ask()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["vectors.db", "vectors.DuckDB", "rows.csv"])
def test_a_folder_named_as_a_file_is_opened_only_where_it_exists(name: str, tmp_path: Path) -> None:
    from w2v2.errors import UserError
    from w2v2.tables.table import open_table

    uri = str(tmp_path / name)
    with pytest.raises(
        UserError, match=rf"^table '{uri}' is named as a file, .* write duckdb://{uri}\?table=name "
    ):
        open_table(uri, make_spec())
    assert not list(tmp_path.iterdir())
    (tmp_path / name).mkdir()
    assert len(open_table(uri, make_spec()).read()) == 0
