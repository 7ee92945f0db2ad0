"""Parts: rows written by workers before a commit."""

from pathlib import Path

import pyarrow as pa
import pytest

from tests.tables.places import DIM, Place, changed, make_rows, make_spec, write


def test_damaged_and_foreign_parts_are_refused(place: Place, tmp_path: Path) -> None:
    from w2v2.errors import UserError
    from w2v2.storage.files import read_bytes, write_bytes
    from w2v2.tables.table import open_table

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


def test_a_part_is_named_by_its_content_and_listed(tmp_path: Path) -> None:
    from w2v2.tables.parts import list_parts, num_rows, read_part, write_id, write_part

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
            "this key is in more than one row",
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
    from w2v2.errors import UserError
    from w2v2.tables.parts import list_parts, write_part

    with pytest.raises(UserError, match=message):
        write_part(str(tmp_path), rows, spec=make_spec())
    assert list_parts(str(tmp_path)) == []
