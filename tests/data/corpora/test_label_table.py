"""The same table of labels as CSV, Parquet and spreadsheet gives the same clips and rejects; each mistake is a sentence."""

import datetime
import logging
import math
from decimal import Decimal
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.corpora.label_table import open_table
from w2v2.errors import UserError

HEADER = ["uri", "label", "speaker", "start_s", "end_s", "age", "visit"]
ROWS: list[list[object]] = [
    ["a.wav", "sad", "007", 0.5, 2, 31, datetime.date(2024, 5, 1)],
    [" b.wav ", "glücklich", "Jürgen", None, None, None, datetime.datetime(2024, 5, 1, 10, 2, 3)],
    ["c.wav", None, "7", 1, 3.25, 40.5, None],
    ["d.wav", 3, 12, None, 4, True, None],
]


def text(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case _:
            return str(value)


def write_csv(path: Path, rows: list[list[object]], separator: str = ",") -> None:
    lines = [separator.join(map(text, row)) for row in [HEADER, *rows]]
    path.write_text("\n".join(lines) + "\n")


def write_xlsx(path: Path, rows: list[list[object]]) -> None:
    book = openpyxl.Workbook()
    for row in [HEADER, *rows]:
        book.active.append(row)
    book.save(path)


def write_parquet(path: Path, rows: list[list[object]]) -> None:
    columns = [[text(row[i]) or None for row in rows] for i in range(len(HEADER))]
    table = pa.table(dict(zip(HEADER, columns, strict=True)))
    for name in ("start_s", "end_s"):
        numbers = [None if value is None else float(value) for value in table[name].to_pylist()]
        table = table.set_column(HEADER.index(name), name, pa.array(numbers))
    pq.write_table(table.set_column(1, "label", table["label"].dictionary_encode()), path)


def test_csv_parquet_and_spreadsheet_are_the_same_clips(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ROWS)
    write_csv(tmp_path / "t.tsv", ROWS, "\t")
    write_xlsx(tmp_path / "t.xlsx", ROWS)
    write_parquet(tmp_path / "t.parquet", ROWS)
    read = {
        path.suffix: manifest.read(DataConfig(uri=str(path), slice_columns=("age", "visit")))
        for path in tmp_path.iterdir()
    }
    assert len(read) == 4
    wanted = read[".csv"]
    assert wanted.clips["clip_id"].to_pylist() == ["a.wav#t=0.5,2.0", "b.wav", "d.wav#t=0.0,4.0"]
    assert wanted.clips["speaker"].to_pylist() == ["007", "Jürgen", "12"]
    assert wanted.clips["label"].to_pylist() == ["sad", "glücklich", "3"]
    assert wanted.clips["age"].to_pylist() == ["31", "", "True"]
    assert wanted.clips["visit"].to_pylist() == ["2024-05-01", "2024-05-01 10:02:03", ""]
    for suffix, corpus in read.items():
        assert corpus.clips.equals(wanted.clips), suffix
        assert corpus.rejects["kind"].to_pylist() == ["label is empty"], suffix
        row = 3 if suffix == ".parquet" else 4
        assert corpus.rejects["reason"].to_pylist() == [f"row {row}: label is empty"]


def test_parquet_of_pandas_with_gaps_categories_and_lengths_of_time(tmp_path: Path) -> None:
    """As audformat stores a table of segments."""
    index = pd.MultiIndex.from_arrays(
        [["a.wav", "a.wav"], pd.to_timedelta([0, 1.5], unit="s"), pd.to_timedelta([1.5, None], unit="s")],
        names=["file", "start", "end"],
    )
    frame = pd.DataFrame({"speaker": [7.0, 8.0], "label": pd.Categorical(["x", "y"])}, index=index)
    frame.to_parquet(tmp_path / "t.parquet")
    clips = manifest.read(DataConfig(uri=str(tmp_path / "t.parquet"))).clips
    assert clips["start_s"].to_pylist() == [0.0, 1.5] and clips["end_s"].to_pylist() == [1.5, math.inf]
    assert clips["speaker"].to_pylist() == ["7", "8"] and clips["label"].to_pylist() == ["x", "y"]


def test_every_kind_of_parquet_column_is_the_text_a_csv_would_have(tmp_path: Path) -> None:
    moment = datetime.datetime(2024, 5, 1, 10, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "big": pa.array([2**60, None]),
            "float": pa.array([0.1, math.nan]),
            "decimal": pa.array([Decimal("1.50"), None]),
            "day": pa.array([datetime.date(2024, 5, 1), None]),
            "moment": pa.array([moment, None], pa.timestamp("ns", "UTC")),
            "length": pa.array([1_500_000_000, None], pa.duration("ns")),
            "flag": pa.array([False, None]),
            "list": pa.array([[1], None]),
            "view": pa.array(["x", None], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    file = open_table(str(tmp_path / "t.parquet"), shown_as="t.parquet")
    assert list(file.rows) == [
        (1, [str(2**60), "0.1", "1.5", "2024-05-01", "2024-05-01 10:00:00+00:00", "1.5", "False", "", "x"])
    ]  # a row without any value is blank
    with pytest.raises(
        UserError, match=r"column 'list' holds list<element: int64>, wanted text, numbers or dates"
    ):
        file.places(["list"])


def test_a_sheet_is_chosen_by_name_and_its_rows_are_numbered_as_it_shows_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Notes"
    book.active.append(["made by", "me"])
    sheet = book.create_sheet("Clips")
    for row in (
        [],
        ["uri", "label", "speaker"],
        [],
        ["a.wav", "x", 7],
        ["b.wav", "#N/A", "s"],
        ["c.wav", "x", None],
    ):
        sheet.append(row)
    sheet["F9"] = " "
    book.create_sheet("Codes").sheet_state = "hidden"
    uri = str(tmp_path / "t.xlsx")
    book.save(uri)
    with (
        caplog.at_level(logging.WARNING, "w2v2"),
        pytest.raises(UserError, match=r"t.xlsx \(sheet 'Notes'\) has no column 'uri', its columns are 'made by', 'me': .*--data.sheet \('Clips', 'Codes'\)"),
    ):  # fmt: skip
        manifest.read(DataConfig(uri=uri))
    assert "the first sheet, 'Notes', is read, and not 'Clips'" in caplog.text
    corpus = manifest.read(DataConfig(uri=uri, sheet="Clips"))
    assert corpus.clips["speaker"].to_pylist() == ["7"]
    assert corpus.rejects["reason"].to_pylist() == ["row 5: label is empty", "row 6: speaker is empty"]
    with pytest.raises(
        UserError, match=r"data.sheet='clips' is not in .*, its sheets are 'Notes', 'Clips', 'Codes'"
    ):
        manifest.read(DataConfig(uri=uri, sheet="clips"))
    (tmp_path / "t.csv").write_text("uri,label,speaker\na.wav,x,s\n")
    with pytest.raises(UserError, match=r"data.sheet='Clips' is for spreadsheets, got .*t.csv: leave it out"):
        manifest.read(DataConfig(uri=str(tmp_path / "t.csv"), sheet="Clips"))
    with pytest.raises(UserError, match=r"data.sheet='Clips' is for a spreadsheet, got data.uri"):
        manifest.read(DataConfig(uri=str(tmp_path), sheet="Clips"))


def test_columns_twice_in_any_table(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["uri", "label", "speaker", "label"])
    book.active.append(["a.wav", "x", "s", "y"])
    book.save(tmp_path / "t.xlsx")
    columns = [pa.array([value]) for value in ("a.wav", "x", "s", "y")]
    pq.write_table(
        pa.Table.from_arrays(columns, ["uri", "label", "speaker", "label"]), tmp_path / "t.parquet"
    )
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match="two columns 'label': rename one"):
            manifest.read(DataConfig(uri=str(path)))


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("t.xlsx", b"uri,label\na.wav,x\n", r"t\.xlsx cannot be read as a spreadsheet \(.*\): save it as .xlsx again"),
        ("t.ods", b"", r"t\.ods cannot be read as a spreadsheet"),
        ("t.parquet", b"uri,label\na.wav,x\n", r"t\.parquet cannot be read as Parquet \(.*\): write it again"),
        ("t.parquet", b"", r"t\.parquet cannot be read as Parquet"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_its_name_says(
    tmp_path: Path, name: str, content: bytes, wanted: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=wanted):
        manifest.read(DataConfig(uri=str(tmp_path / name)))


def test_damaged_tables_are_a_sentence(tmp_path: Path) -> None:
    write_xlsx(tmp_path / "t.xlsx", ROWS)
    write_parquet(tmp_path / "t.parquet", ROWS)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        for cut in (10, len(content) // 2, len(content) - 5):
            path.write_bytes(content[:cut])
            with pytest.raises(UserError, match=r"cannot be read as (Parquet|a spreadsheet)"):
                manifest.read(DataConfig(uri=str(path)))


def test_an_empty_sheet_and_a_header_alone(tmp_path: Path) -> None:
    openpyxl.Workbook().save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match="no column 'uri', its columns are none"):
        manifest.read(DataConfig(uri=str(tmp_path / "t.xlsx")))
    write_xlsx(tmp_path / "t.xlsx", [])
    with pytest.raises(UserError, match="has a header and no rows"):
        manifest.read(DataConfig(uri=str(tmp_path / "t.xlsx")))


# Text in all the ways that it is saved


def test_semicolons_come_with_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "uri;speaker;start_s;end_s;valence\na.wav;s;0,5;1,25;-3,5\nb.wav;s;;2;1.5\n"
    )
    data = DataConfig(uri=str(tmp_path / "t.csv"), target_columns=("valence",))
    clips = manifest.read(data, task="regression").clips
    assert clips["start_s"].to_pylist() == [0.5, 0.0] and clips["end_s"].to_pylist() == [1.25, 2.0]
    assert clips["target_valence"].to_pylist() == [-3.5, 1.5]
    (tmp_path / "t.csv").write_text('uri,speaker,valence\na.wav,s,"3,5"\nb.wav,s,1\n')
    rejects = manifest.read(data, task="regression").rejects
    assert rejects["reason"].to_pylist() == ["row 2: bad target: valence is '3,5', wanted a number or empty"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes("uri,label,speaker\nü.wav,x,Ж\n".encode(encoding))
    assert manifest.read(DataConfig(uri=str(tmp_path / "t.csv"))).clips["speaker"].to_pylist() == ["Ж"]


def test_one_bad_byte_in_utf_8_is_one_reject(tmp_path: Path) -> None:
    rows = ["uri,label,speaker", "ü.wav,x,Jürgen", "b.wav,x,s"]
    content = "\n".join(rows).encode() + b"\nc.wav,x,J\xfcrgen\n"
    (tmp_path / "t.csv").write_bytes(content)
    corpus = manifest.read(DataConfig(uri=str(tmp_path / "t.csv")))
    assert corpus.clips["speaker"].to_pylist() == ["Jürgen", "s"]
    assert corpus.rejects["kind"].to_pylist() == ["name is no text"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_line(tmp_path: Path, end: str) -> None:
    (tmp_path / "t.csv").write_bytes(end.join(["uri;label;speaker", "a,b.wav;x,y,z;s", ""]).encode())
    clips = manifest.read(DataConfig(uri=str(tmp_path / "t.csv"))).clips
    assert clips.select(["clip_id", "label"]).to_pylist() == [{"clip_id": "a,b.wav", "label": "x,y,z"}]


def test_the_tables_of_a_clinic_may_be_spreadsheets_and_parquet(tmp_path: Path) -> None:
    for name in ("r1.wav", "r2.wav"):
        (tmp_path / name).touch()
    (tmp_path / "labels.txt").write_text("tremor\n")
    book = openpyxl.Workbook()
    for row in (["UID", "speaker", "tremor"], ["r1", 7, 1], ["gone", 8, 0]):
        book.active.append(row)
    book.save(tmp_path / "train.xlsx")
    pq.write_table(
        pa.table({"file_name": ["r2.wav"], "speaker": [9], "tremor": [0.0]}), tmp_path / "test.parquet"
    )
    data = DataConfig(uri=str(tmp_path), layout="clinic")
    corpus = manifest.read(data, task="multi_label")
    assert corpus.clips.select(["clip_id", "speaker", "split", "target_tremor"]).to_pylist() == [
        {"clip_id": "r1.wav", "speaker": "7", "split": "train", "target_tremor": 1.0},
        {"clip_id": "r2.wav", "speaker": "9", "split": "test", "target_tremor": 0.0},
    ]
    assert corpus.rejects["reason"].to_pylist()[0].startswith("row 3 of train.xlsx: missing: no gone")
    (tmp_path / "train.csv").write_text("uid,speaker,tremor\nr1,7,1\n")
    with pytest.raises(
        UserError, match=r"train.csv and .*train.xlsx are tables of the same split: remove one"
    ):
        manifest.read(data, task="multi_label")
