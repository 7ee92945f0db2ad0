"""Rows of a CSV become clips and rejects; every mistake says what to do."""

import csv
import logging
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.made.csv_clips import csv_file, read_csv, reasons
from w2v2.config.data import DataConfig
from w2v2.data import manifest, names
from w2v2.data.corpora.rows import resolved
from w2v2.errors import UserError
from w2v2.storage.csv_text import safe_cell


def test_csv_reads_bom_quotes_and_crlf(tmp_path):
    text = '\ufeffuri,label,speaker\r\n"a, b.wav","so ""sad""",7\r\nc/ü.flac, happy ,08\r\n'
    result = read_csv(tmp_path, text)
    assert result.clips.schema == manifest.CLIPS
    assert result.clips.select(["clip_id", "uri", "speaker", "label", "split"]).to_pylist() == [
        {
            "clip_id": "a, b.wav",
            "uri": f"{tmp_path}/a, b.wav",
            "speaker": "7",
            "label": 'so "sad"',
            "split": "",
        },
        {
            "clip_id": "c/ü.flac",
            "uri": f"{tmp_path}/c/ü.flac",
            "speaker": "08",
            "label": "happy",
            "split": "",
        },
    ]


def test_csv_keeps_what_looks_like_numbers_and_nulls_as_text(tmp_path):
    result = read_csv(
        tmp_path,
        "uri,label,speaker\n1.wav,NA,007\n2.wav,1e3,null\n3.wav,1e3,nan\n4.wav,NaN,x\n5.wav,None,s\n6.wav,1e3,None\n",
    )
    assert result.clips["label"].to_pylist() == ["NA", "1e3", "None"]
    assert result.clips["speaker"].to_pylist() == ["007", "null", "s"]
    assert reasons(result) == {
        "3.wav": "no speaker: it is 'nan'", "4.wav": "no label: it is 'NaN'", "6.wav": "no speaker: it is 'None'",
    }  # fmt: skip


CELL = (
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1)
    .map(str.strip)
    .filter(lambda text: text and text not in {*names.MISSING, *names.MISSING_SPEAKER})
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1))
@example(rows=[("'@", "=a"), ("''-", "'tis")])
def test_csv_round_trip(tmp_path, rows):
    path = tmp_path / "round.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "label", "speaker"])
        writer.writerows([(f"{i}.wav", *map(safe_cell, row)) for i, row in enumerate(rows)])
    clips = manifest.read(DataConfig(uri=str(path))).clips
    assert list(zip(clips["label"].to_pylist(), clips["speaker"].to_pylist(), strict=True)) == rows


def test_csv_columns_of_ones_own(tmp_path):
    text = "key,file,emotion,who,from,to,part,more\nk1,a.wav,sad,x,0.5,2,train,zzz\n"
    columns = {
        "id_column": "key",
        "uri_column": "file",
        "label_column": "emotion",
        "speaker_column": "who",
        "start_column": "from",
        "end_column": "to",
        "split_column": "part",
    }
    assert read_csv(tmp_path, text, **columns).clips.to_pylist() == [
        {
            "clip_id": "k1",
            "uri": f"{tmp_path}/a.wav",
            "start_s": 0.5,
            "end_s": 2.0,
            "speaker": "x",
            "split": "train",
            "label": "sad",
        }
    ]


def test_csv_segments_of_one_file_have_their_own_ids(tmp_path):
    text = "uri,start_s,end_s,label,speaker\na.wav,0,1.5,x,s\na.wav,1.5,,y,s\na.wav,,,y,s\na.wav,1,inf,x,s\n"
    clips = read_csv(tmp_path, text).clips
    assert clips["clip_id"].to_pylist() == ["a.wav#t=0.0,1.5", "a.wav#t=1.5,inf", "a.wav", "a.wav#t=1.0,inf"]
    assert clips["start_s"].to_pylist() == [0.0, 1.5, 0.0, 1.0]
    assert clips["end_s"].to_pylist() == [1.5, math.inf, math.inf, math.inf]


@pytest.mark.parametrize(
    ("uri", "folder", "wanted"),
    [
        ("a.wav", "gs://bucket/x", "gs://bucket/x/a.wav"),
        ("./b/a.wav", "gs://bucket", "gs://bucket/b/a.wav"),
        ("gs://other/a.wav", "gs://bucket/x", "gs://other/a.wav"),
        ("/data/a.wav", "gs://bucket/x", "/data/a.wav"),
        ("b c/a.wav", "/home/x", "/home/x/b c/a.wav"),
        ("gs://bucket/a.wav", "/home/x", "gs://bucket/a.wav"),
        (r"audio\s1\a.wav", "/home/x", "/home/x/audio/s1/a.wav"),
        (r"..\a.wav", "/home/x", "/home/a.wav"),
        ("b/a\\b.wav", "/home/x", "/home/x/b/a\\b.wav"),
    ],
)
def test_csv_relative_uris_are_below_its_folder(uri, folder, wanted):
    assert resolved(uri, folder) == wanted


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.wav,,s,,", "row 3: label is empty"),
        ("a.wav,x, ,,", "row 3: speaker is empty"),
        (",x,s,,", "row 3: uri is empty"),
        ("a.wav,x,s,abc,", "row 3: bad segment: start_s is 'abc', wanted seconds, 0 or more"),
        ("a.wav,x,s,-1,", "row 3: bad segment: start_s is '-1', wanted seconds, 0 or more"),
        ("a.wav,x,s,,nan", "row 3: bad segment: end_s is 'nan', wanted seconds, 0 or more"),
        ("a.wav,x,s,2,1.5", "row 3: bad segment: end_s 1.5 is not behind start_s 2"),
        ("a.wav,x,s,2,2", "row 3: bad segment: end_s 2 is not behind start_s 2"),
        ("a.wav,x,s,inf,", "row 3: bad segment: end_s inf is not behind start_s inf"),
        ("a.wav,x,s,", "row 3: wrong number of fields: 4, the header has 5"),
        ("a.wav,x,s,,,", "row 3: wrong number of fields: 6, the header has 5"),
    ],
)
def test_csv_bad_row_is_a_reject(tmp_path, row, reason):
    text = f"uri,label,speaker,start_s,end_s\ngood.wav,x,s,,\n{row}\n"
    result = read_csv(tmp_path, text)
    assert list(reasons(result).values()) == [reason]
    assert list(reasons(result)) == (["row 3"] if row.startswith(",") else ["a.wav"])
    assert result.clips["clip_id"].to_pylist() == ["good.wav"]


@pytest.mark.parametrize("uri", ["s3://bucket/a.wav", "a\0.wav", "file://[::1/x"])
def test_csv_uri_that_cannot_be_opened_is_a_reject(tmp_path, uri):
    result = read_csv(tmp_path, f"uri,label,speaker\ngood.wav,x,s\n{uri},x,s\n")
    assert reasons(result)[uri].startswith("row 3: ")
    assert result.rejects["uri"].to_pylist() == [uri]


def test_csv_empty_id_is_a_reject(tmp_path):
    result = read_csv(tmp_path, "clip_id,uri,label,speaker\n,a.wav,x,s\nk,b.wav,x,s\n")
    assert reasons(result) == {"a.wav": "row 2: clip_id is empty"}


def test_csv_blank_lines_are_no_rows_and_count(tmp_path):
    result = read_csv(tmp_path, "uri,label,speaker\n\na.wav,x,s\n\nb.wav,,s\n\n")
    assert result.clips["clip_id"].to_pylist() == ["a.wav"]
    assert reasons(result) == {"b.wav": "row 5: label is empty"}


@pytest.mark.parametrize(
    ("column", "flag"),
    [("uri", "uri_column"), ("label", "label_column"), ("speaker", "speaker_column")],
)
def test_csv_missing_column(tmp_path, column, flag):
    header = [name for name in ("uri", "label", "speaker", "extra") if name != column]
    columns = ", ".join(repr(name) for name in header)
    wanted = f"has no column '{column}', its columns are {columns}: set --data.{flag}"
    with pytest.raises(UserError, match=wanted):
        read_csv(tmp_path, f"{','.join(header)}\na,b,c\n")


def test_csv_optional_column_that_was_asked_for_must_exist(tmp_path):
    with pytest.raises(UserError, match=r"has no column 'begin', .*set --data.start_column"):
        read_csv(tmp_path, "uri,label,speaker\na.wav,x,s\n", start_column="begin")


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_csv_with_other_separators(tmp_path, separator):
    text = 'uri,label,speaker\n"a.wav",x,s\nb.wav,y,t\n'.replace(",", separator)
    for first in ("", f"sep={separator}\n"):
        result = read_csv(tmp_path, first + text)
        assert result.clips["clip_id"].to_pylist() == ["a.wav", "b.wav"]
        assert result.clips["label"].to_pylist() == ["x", "y"]


def test_csv_with_folders_above(tmp_path):
    (tmp_path / "tables").mkdir()
    result = read_csv(tmp_path / "tables", "uri,label,speaker\n../audio/a.wav,x,s\n")
    assert result.clips["uri"].to_pylist() == [f"{tmp_path}/audio/a.wav"]
    assert result.clips["clip_id"].to_pylist() == ["../audio/a.wav"]


def test_csv_of_audformat(tmp_path):
    text = (
        "file,start,end,label,speaker\na.wav,0 days 00:00:01.5,0 days 00:01:02.25,x,s\nb.wav,0 days,NaT,x,s\n"
    )
    result = read_csv(tmp_path, text.replace("0 days,", "0 days 00:00:00,"))
    assert result.clips["start_s"].to_pylist() == [1.5, 0.0]
    assert result.clips["end_s"].to_pylist() == [62.25, math.inf]
    bad = read_csv(tmp_path, "file,start,end,label,speaker\na.wav,soon,NaT,x,s\nb.wav,00:00:00,NaT,x,s\n")
    assert reasons(bad) == {"a.wav": "row 2: bad segment: start is 'soon', wanted seconds, 0 or more"}


def test_csv_column_twice(tmp_path):
    with pytest.raises(UserError, match="two columns 'label': rename one"):
        read_csv(tmp_path, "uri,label,speaker,label\na.wav,x,s,y\n")


def test_csv_empty_file(tmp_path):
    with pytest.raises(UserError, match="no column 'uri', its columns are none"):
        read_csv(tmp_path, "")


def test_csv_header_alone(tmp_path):
    with pytest.raises(UserError, match="has a header and no rows: wanted one row per clip"):
        read_csv(tmp_path, "uri,label,speaker\n\n")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_csv_of_excel(tmp_path, encoding, caplog):
    uri = csv_file(tmp_path, "uri;label;speaker\nü.wav;traurig;Jürgen\n", encoding=encoding)
    with caplog.at_level(logging.WARNING, "w2v2"):
        clips = manifest.read(DataConfig(uri=uri)).clips
    assert clips["speaker"].to_pylist() == ["Jürgen"] and clips["clip_id"].to_pylist() == ["ü.wav"]
    assert ("read as Windows-1252" in caplog.text) == (encoding == "cp1252")


def test_csv_that_is_no_text(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_bytes(b"uri,label\x81\n")
    with pytest.raises(
        UserError, match=r"is neither UTF-8 \(byte 9\) nor Windows-1252 text: save it as CSV UTF-8"
    ):
        manifest.read(DataConfig(uri=str(path)))


@pytest.mark.parametrize("num_rows", [1, 3, 20_000])
def test_csv_with_an_open_quote_loses_no_row(tmp_path, num_rows):
    rows = "".join(f"{i}.wav,x,s\n" for i in range(num_rows))
    with pytest.raises(
        UserError, match=r"from line 2 on .*look for an open quote|the row that begins in line 2 goes on"
    ):
        read_csv(tmp_path, f'uri,label,speaker\n"a.wav,x,s\n{rows}')
    with pytest.raises(
        UserError, match="the row that begins in line 2 continues to line 4, as a quote is open"
    ):
        read_csv(tmp_path, 'uri,label,speaker\n"a.wav,x,s\nb.wav,x,s\nc"\nd.wav,x,s\n')


def test_signatures_in_uris_are_written_nowhere(tmp_path, caplog):
    uri = "https://me:pw@host/a.wav?X-Goog-Signature=5ec7e7&x=1"
    with caplog.at_level(logging.DEBUG):
        result = read_csv(tmp_path, f"uri,label,speaker\n{uri},x,s\ngood.wav,x,s\n")
        with pytest.raises(UserError) as failure:
            manifest.check_rejects(result, max_reject_fraction=0, run=str(tmp_path / "run"))
    texts = f"{result.rejects.to_pylist()}{result.clips.to_pylist()}{caplog.text}{failure.value}"
    assert "https://***@host/a.wav?***" in texts
    assert "5ec7e7" not in texts and "pw@" not in texts
    assert (tmp_path / "run" / "rejects.parquet").exists()


def test_csv_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"gone\.csv"):
        manifest.read(DataConfig(uri=str(tmp_path / "gone.csv")))


def test_csv_clip_id_twice(tmp_path):
    rows = "".join(f"{i}.wav,x,s\n" for i in range(13)) * 2
    listed = ", ".join(f"'{i}.wav'" for i in range(10))
    with pytest.raises(
        UserError, match=f"13 clip ids are not unique: {listed} and 3 more; .*--data.id_column"
    ):
        read_csv(tmp_path, f"uri,label,speaker\n{rows}")


def test_csv_without_label_and_speaker(tmp_path):
    (tmp_path / "clips.csv").write_text("uri,age\na.wav,31\nb.wav,\n")
    data = DataConfig(uri=str(tmp_path / "clips.csv"))
    corpus = manifest.read(data, task="none", extra_columns=["age"])
    assert corpus.clips["uri"].to_pylist() == [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    assert corpus.clips["age"].to_pylist() == ["31", ""] and corpus.clips["label"].to_pylist() == ["", ""]
    with pytest.raises(UserError, match="no column 'label'"):
        manifest.read(data)
    with pytest.raises(UserError, match="no column 'size', its columns are 'uri', 'age'"):
        manifest.read(data, task="none", extra_columns=["size"])
    with pytest.raises(UserError, match="is no CSV and has no columns, but 'age' are asked for"):
        manifest.read(DataConfig(uri=str(tmp_path)), task="none", extra_columns=["age"])


def test_csv_whose_rows_are_all_bad_says_why(tmp_path):
    result = read_csv(tmp_path, "uri,label,speaker\na.wav,,s\nb.wav,,s\n", classes={"calm": "neutral"})
    assert not len(result.clips) and result.clips.schema == manifest.CLIPS
    with pytest.raises(UserError, match=r"all 2 clips were rejected: label is empty \(2\)"):
        manifest.check(result, max_reject_fraction=0.5)


def test_all_columns_that_are_missing_are_named_at_once(tmp_path):
    wanted = "has no column 'uri', its columns are .*: set --data.uri_column, --data.label_column, --data.speaker_column$"
    with pytest.raises(UserError, match=wanted):
        read_csv(tmp_path, "Datei;Gefühl;Sprecher\na.wav;froh;1\n")
