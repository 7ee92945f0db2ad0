"""File names and CSVs become clips and rejects; every mistake says what to do."""

import csv
import logging
import math

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cloud.gcs import FakeGcs, gcs_environment
from w2v2 import manifest
from w2v2.config import DataConfig, UserError

SPEECH = "03-01-06-01-02-01-12.wav"
SONG = "03-02-05-01-01-01-07.wav"


def folder(tmp_path, *names):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened here")
    return str(tmp_path)


def read_folder(tmp_path, *names, **data):
    return manifest.read(DataConfig(uri=folder(tmp_path, *names), **data))


def csv_file(tmp_path, text, name="clips.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return str(path)


def read_csv(tmp_path, text, **data):
    return manifest.read(DataConfig(uri=csv_file(tmp_path, text), **data))


def reasons(result):
    return dict(zip(result.rejects["clip_id"].to_pylist(), result.rejects["reason"].to_pylist(), strict=True))


# RAVDESS


def test_ravdess_name_becomes_a_clip(tmp_path):
    result = read_folder(tmp_path, f"Actor_12/{SPEECH}")
    assert result.clips.schema == manifest.CLIPS
    assert result.rejects.schema == manifest.REJECTS
    assert result.clips.to_pylist() == [
        {
            "clip_id": f"Actor_12/{SPEECH}",
            "uri": f"{tmp_path}/Actor_12/{SPEECH}",
            "start_s": 0.0,
            "end_s": math.inf,
            "speaker": "12",
            "split": "",
            "label": "fearful",
        }
    ]


def test_ravdess_whole_corpus(tmp_path):
    # The corpus as published: 24 actors x 60; neutral has no strong intensity.
    names = [
        f"Actor_{a:02}/03-01-{e:02}-{i:02}-{s:02}-{r:02}-{a:02}.wav"
        for a in range(1, 25)
        for e in range(1, 9)
        for i in (1, 2)
        for s in (1, 2)
        for r in (1, 2)
        if not (e == 1 and i == 2)
    ]
    result = read_folder(tmp_path, *names)
    assert len(result.clips) == 1440
    assert len(result.rejects) == 0
    counts = {row["values"]: row["counts"] for row in result.clips["label"].value_counts().to_pylist()}
    assert counts == {"neutral": 96} | dict.fromkeys(manifest.RAVDESS_CLASSES[1:], 192)
    assert {row["counts"] for row in result.clips["speaker"].value_counts().to_pylist()} == {60}
    assert result.clips["clip_id"].to_pylist() == sorted(names)
    manifest.check(result, max_reject_fraction=0.0)


def test_ravdess_same_name_in_two_folders_stays_two_clips(tmp_path):
    result = read_folder(tmp_path, f"a/{SPEECH}", f"a/b/c/{SPEECH}", SPEECH)
    assert result.clips["clip_id"].to_pylist() == [SPEECH, f"a/{SPEECH}", f"a/b/c/{SPEECH}"]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".WAV", ".Mp3"])
def test_ravdess_takes_every_audio_suffix(tmp_path, suffix):
    result = read_folder(tmp_path, f"03-01-01-01-01-01-01{suffix}")
    assert result.clips["label"].to_pylist() == ["neutral"]


@pytest.mark.parametrize("uri", ["{0}/", "{0}/../{1}", "~/{1}"])
def test_ravdess_clip_id_does_not_depend_on_how_the_folder_is_written(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    folder(tmp_path, f"x/{SPEECH}")
    result = manifest.read(DataConfig(uri=uri.format(tmp_path, tmp_path.name)))
    assert result.clips["clip_id"].to_pylist() == [f"x/{SPEECH}"]
    assert result.clips["uri"].to_pylist() == [f"{tmp_path}/x/{SPEECH}"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("04-01-01-01-01-01-01", "field 1 (modality) is 04, wanted 01 to 03"),
        ("03-03-01-01-01-01-01", "field 2 (vocal channel) is 03, wanted 01 to 02"),
        ("03-01-09-01-01-01-01", "field 3 (emotion) is 09, wanted 01 to 08"),
        ("03-01-00-01-01-01-01", "field 3 (emotion) is 00, wanted 01 to 08"),
        ("03-01-02-03-01-01-01", "field 4 (intensity) is 03, wanted 01 to 02"),
        ("03-01-02-01-03-01-01", "field 5 (statement) is 03, wanted 01 to 02"),
        ("03-01-02-01-01-03-01", "field 6 (repetition) is 03, wanted 01 to 02"),
        ("03-01-02-01-01-01-25", "field 7 (actor) is 25, wanted 01 to 24"),
        ("03-01-01-02-01-01-01", "field 4 (intensity) is 02, but neutral (01) has no strong intensity"),
        ("03-01-02-01-01-01", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
        ("03-01-02-01-01-01-01-01", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
        ("3-1-2-1-1-1-1", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
        ("03-01-02-01-01-01-0٣", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
        ("hello", "wanted seven two-digit fields like 03-01-06-01-02-01-12"),
    ],
)
def test_ravdess_bad_name_is_a_reject(tmp_path, name, reason):
    result = read_folder(tmp_path, f"{name}.wav", SPEECH)
    assert reasons(result) == {f"{name}.wav": f"name not RAVDESS: {reason}"}
    assert result.rejects["uri"].to_pylist() == [f"{tmp_path}/{name}.wav"]
    assert result.clips["clip_id"].to_pylist() == [SPEECH]


def test_ravdess_video_is_a_reject(tmp_path):
    result = read_folder(tmp_path, "01-01-02-01-01-01-01.wav", SPEECH)
    wanted = "video: field 1 (modality) is 01, wanted 03 (audio only)"
    assert reasons(result) == {"01-01-02-01-01-01-01.wav": wanted}


@pytest.mark.parametrize(
    ("channel", "names"), [("speech", [SPEECH]), ("song", [SONG]), ("both", [SPEECH, SONG])]
)
def test_ravdess_vocal_channel(tmp_path, caplog, channel, names):
    with caplog.at_level(logging.INFO, "w2v2.manifest"):
        result = read_folder(tmp_path, SPEECH, SONG, "README.txt", ".hidden.wav", vocal_channel=channel)
    assert result.clips["clip_id"].to_pylist() == names
    assert len(result.rejects) == 0
    assert f"data.vocal_channel={channel} leaves out {2 - len(names)} clips" in caplog.text
    assert "passed over 1 files that are not audio" in caplog.text


def test_ravdess_only_the_other_vocal_channel(tmp_path):
    wanted = "has 1 RAVDESS clips, but none with data.vocal_channel=song: set --data.vocal_channel both"
    with pytest.raises(UserError, match=wanted):
        read_folder(tmp_path, SPEECH, vocal_channel="song")


def test_ravdess_folder_without_audio_says_what_it_has(tmp_path):
    names = ["a.txt", "b/c.TXT", "clips.csv", "LICENSE"]
    wanted = r"holds no audio file \(.wav .flac .ogg .mp3\), found 2 .txt, 1 no suffix, 1 .csv: give the"
    with pytest.raises(UserError, match=wanted):
        read_folder(tmp_path, *names)


def test_ravdess_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"holds no audio file .*found no file at all: give the folder"):
        read_folder(tmp_path)


def test_ravdess_missing_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        manifest.read(DataConfig(uri=str(tmp_path / "nowhere")))


# CSV


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
    result = read_csv(tmp_path, "uri,label,speaker\n1.wav,NA,007\n2.wav,1e3,nan\n")
    assert result.clips["label"].to_pylist() == ["NA", "1e3"]
    assert result.clips["speaker"].to_pylist() == ["007", "nan"]


CELL = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1))
def test_csv_round_trip(tmp_path, rows):
    path = tmp_path / "round.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "label", "speaker"])
        writer.writerows([(f"{i}.wav", label, speaker) for i, (label, speaker) in enumerate(rows)])
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
    ],
)
def test_csv_relative_uris_are_below_its_folder(uri, folder, wanted):
    assert manifest._resolved(uri, folder) == wanted


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.wav,,s,,", "row 3: label is empty"),
        ("a.wav,x, ,,", "row 3: speaker is empty"),
        (",x,s,,", "row 3: uri is empty"),
        ("a.wav,x,s,abc,", "row 3: start_s is 'abc', wanted seconds, 0 or more"),
        ("a.wav,x,s,-1,", "row 3: start_s is '-1', wanted seconds, 0 or more"),
        ("a.wav,x,s,,nan", "row 3: end_s is 'nan', wanted seconds, 0 or more"),
        ("a.wav,x,s,2,1.5", "row 3: end_s 1.5 is not behind start_s 2"),
        ("a.wav,x,s,2,2", "row 3: end_s 2 is not behind start_s 2"),
        ("a.wav,x,s,inf,", "row 3: end_s inf is not behind start_s inf"),
        ("a.wav,x,s,", "row 3: it has 4 fields, the header has 5"),
        ("a.wav,x,s,,,", "row 3: it has 6 fields, the header has 5"),
    ],
)
def test_csv_bad_row_is_a_reject(tmp_path, row, reason):
    text = f"uri,label,speaker,start_s,end_s\ngood.wav,x,s,,\n{row}\n"
    result = read_csv(tmp_path, text)
    assert list(reasons(result).values()) == [reason]
    assert list(reasons(result)) == (["row 3"] if row.startswith(",") else ["a.wav"])
    assert result.clips["clip_id"].to_pylist() == ["good.wav"]


@pytest.mark.parametrize("uri", ["../a.wav", "s3://bucket/a.wav"])
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


def test_csv_optional_column_that_was_asked_for_must_be_there(tmp_path):
    with pytest.raises(UserError, match=r"has no column 'begin', .*set --data.start_column"):
        read_csv(tmp_path, "uri,label,speaker\na.wav,x,s\n", start_column="begin")


def test_csv_with_semicolons(tmp_path):
    wanted = "no column 'uri', its columns are 'uri;label;speaker': .*put commas between the columns"
    with pytest.raises(UserError, match=wanted):
        read_csv(tmp_path, "uri;label;speaker\na.wav;x;s\n")


def test_csv_column_twice(tmp_path):
    with pytest.raises(UserError, match="two columns 'label': rename one"):
        read_csv(tmp_path, "uri,label,speaker,label\na.wav,x,s,y\n")


def test_csv_empty_file(tmp_path):
    with pytest.raises(UserError, match="no column 'uri', its columns are none"):
        read_csv(tmp_path, "")


def test_csv_header_alone(tmp_path):
    with pytest.raises(UserError, match="has a header and no rows: wanted one row per clip"):
        read_csv(tmp_path, "uri,label,speaker\n\n")


def test_csv_that_is_not_utf8(tmp_path):
    uri = csv_file(tmp_path, "uri,label,speaker\nü.wav,x,s\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"is not UTF-8 text \(byte 18\): save it as CSV UTF-8"):
        manifest.read(DataConfig(uri=uri))


def test_csv_with_an_open_quote(tmp_path):
    rows = "".join(f"{i}.wav,x,s\n" for i in range(20_000))
    with pytest.raises(UserError, match=r"is not CSV from line \d+ on .*look for an open quote"):
        read_csv(tmp_path, f'uri,label,speaker\n"a.wav,x,s\n{rows}')


def test_csv_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"gone\.csv"):
        manifest.read(DataConfig(uri=str(tmp_path / "gone.csv")))


def test_csv_clip_id_twice(tmp_path):
    rows = "".join(f"{i}.wav,x,s\n" for i in range(13)) * 2
    listed = ", ".join(f"'{i}.wav'" for i in range(10))
    with pytest.raises(
        UserError, match=f"13 clip ids stand more than once: {listed} and 3 more; .*--data.id_column"
    ):
        read_csv(tmp_path, f"uri,label,speaker\n{rows}")


def test_layout_can_be_set_against_the_name(tmp_path):
    uri = csv_file(tmp_path, "uri,label,speaker\na.wav,x,s\n", name="list.txt")
    assert manifest.read(DataConfig(uri=uri, layout="csv")).clips["label"].to_pylist() == ["x"]
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / SPEECH).touch()
    uri = str(tmp_path / "folder.csv")
    assert manifest.read(DataConfig(uri=uri, layout="ravdess")).clips["label"].to_pylist() == ["fearful"]


# gs://


@pytest.fixture(scope="module")
def bucket():
    """A loopback bucket with two RAVDESS clips and a CSV that names one of them and one elsewhere."""
    with FakeGcs("corpus") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in gcs_environment(server).items():
            patch.setenv(name, value)
        server.put("corpus", f"ravdess/Actor_12/{SPEECH}", b"x")
        server.put("corpus", "ravdess/Actor_02/03-01-03-01-02-01-02.wav", b"x")
        server.put("corpus", "ravdess/notes.txt", b"x")
        rows = f"uri,label,speaker\nActor_12/{SPEECH},fearful,12\ngs://elsewhere/b.wav,happy,7\n"
        server.put("corpus", "ravdess/clips.csv", rows.encode())
        yield server


@pytest.mark.parametrize("uri", ["gs://corpus/ravdess", "gs://corpus/ravdess/"])
def test_gs_folder(bucket, uri):
    clips = manifest.read(DataConfig(uri=uri)).clips
    assert clips["clip_id"].to_pylist() == ["Actor_02/03-01-03-01-02-01-02.wav", f"Actor_12/{SPEECH}"]
    assert clips["uri"].to_pylist() == [
        f"gs://corpus/ravdess/{name}" for name in clips["clip_id"].to_pylist()
    ]
    assert clips["label"].to_pylist() == ["happy", "fearful"]


def test_gs_whole_bucket(bucket):
    clips = manifest.read(DataConfig(uri="gs://corpus")).clips
    assert clips["clip_id"].to_pylist()[1] == f"ravdess/Actor_12/{SPEECH}"


def test_gs_csv(bucket):
    clips = manifest.read(DataConfig(uri="gs://corpus/ravdess/clips.csv")).clips
    assert clips["uri"].to_pylist() == [f"gs://corpus/ravdess/Actor_12/{SPEECH}", "gs://elsewhere/b.wav"]


def test_gs_missing(bucket):
    with pytest.raises(UserError, match="gs://corpus/nowhere"):
        manifest.read(DataConfig(uri="gs://corpus/nowhere"))


# Classes


LABELS = "uri,label,speaker\na.wav,calm,s\nb.wav,neutral,s\nc.wav,happy,t\nd.wav,sad,t\n"


def test_classes_merge_rename_and_drop(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "w2v2.manifest"):
        result = read_csv(tmp_path, LABELS, classes={"calm": "neutral", "happy": "joy", "sad": "drop"})
    assert result.clips["label"].to_pylist() == ["neutral", "neutral", "joy"]
    assert result.clips["clip_id"].to_pylist() == ["a.wav", "b.wav", "c.wav"]
    assert len(result.rejects) == 0
    assert "data.classes leaves out 1 clips" in caplog.text


def test_classes_are_swapped_not_chained(tmp_path):
    result = read_csv(tmp_path, LABELS, classes={"calm": "neutral", "neutral": "calm"})
    assert result.clips["label"].to_pylist() == ["neutral", "calm", "happy", "sad"]


def test_a_class_called_drop_is_kept_unless_asked(tmp_path):
    result = read_csv(tmp_path, "uri,label,speaker\na.wav,drop,s\nb.wav,lift,s\n")
    assert result.clips["label"].to_pylist() == ["drop", "lift"]


def test_classes_unknown(tmp_path):
    wanted = "data.classes names 'Calm', which no clip has; the classes found are 'neutral', 'calm', 'happy', 'sad'"
    with pytest.raises(UserError, match=wanted):
        read_csv(tmp_path, LABELS, classes={"Calm": "neutral"})


def test_classes_all_dropped(tmp_path):
    with pytest.raises(UserError, match=r"data.classes drops all 4 clips: keep at least two"):
        read_csv(tmp_path, LABELS, classes=dict.fromkeys(["calm", "neutral", "happy", "sad"], "drop"))


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["sad", "neutral", "happy", "calm"], ["neutral", "calm", "happy", "sad"]),
        (["surprised", "disgust"], ["disgust", "surprised"]),
        (["sad", "neutral", "joy", "calm"], ["calm", "joy", "neutral", "sad"]),
        ([], []),
    ],
)
def test_classes_of(tmp_path, labels, wanted):
    rows = [{"clip_id": str(i), "label": label} for i, label in enumerate(labels)]
    assert manifest.classes_of(pa.Table.from_pylist(rows, schema=manifest.CLIPS)) == wanted


# check and with_rejects


def made(num_clips, rejected=(), labels=("x", "y")):
    clips = [
        {"clip_id": f"c{i}", "uri": f"/c{i}.wav", "label": labels[i % len(labels)]} for i in range(num_clips)
    ]
    bad = [{"clip_id": f"r{i}", "uri": f"/r{i}.wav", "reason": reason} for i, reason in enumerate(rejected)]
    return manifest.Manifest(
        clips=pa.Table.from_pylist(clips, schema=manifest.CLIPS),
        rejects=pa.Table.from_pylist(bad, schema=manifest.REJECTS),
    )


def test_check_of_nothing():
    with pytest.raises(UserError, match=r"nothing was found: no clip and no reject; look at data.uri"):
        manifest.check(made(0), max_reject_fraction=1.0)


def test_check_of_all_rejected():
    wanted = (
        r"all 2 clips were rejected: too short \(2\) \(such as r0: too short: 1; all are in rejects.parquet"
    )
    with pytest.raises(UserError, match=wanted):
        manifest.check(made(0, ["too short: 1", "too short: 2"]), max_reject_fraction=1.0)


def test_check_of_too_many_rejects_names_the_three_commonest_reasons():
    rejected = ["row 2: label is empty", "row 9: label is empty", "row 11: uri is empty", "silent: 0.0"]
    rejected += [f"too short: 0.0{i} s" for i in range(5)] + ["truncated: a", "truncated: b", "truncated: c"]
    wanted = (
        r"12 of 100 clips were rejected, more than the fraction data.max_reject_fraction=0.1: "
        r"too short \(5\), truncated \(3\), label is empty \(2\) \(such as r0: row 2: label is empty; "
        r".*rejects.parquet.*--data.max_reject_fraction"
    )
    with pytest.raises(UserError, match=wanted):
        manifest.check(made(88, rejected), max_reject_fraction=0.1)


def test_check_allows_the_fraction_itself():
    manifest.check(made(9, ["silent: 0"]), max_reject_fraction=0.1)
    with pytest.raises(UserError, match="2 of 11"):
        manifest.check(made(9, ["silent: 0", "silent: 0"]), max_reject_fraction=0.1)


def test_check_of_one_class():
    wanted = "all 5 clips have the class 'x', wanted two classes or more: look at data.label_column and data.classes"
    with pytest.raises(UserError, match=wanted):
        manifest.check(made(5, labels=["x"]), max_reject_fraction=0.0)


def test_with_rejects_moves_clips():
    before = made(5, ["silent: 0"])
    after = manifest.with_rejects(before, [("c3", "not audio: png"), ("c1", "too long: 99 s")])
    assert after.clips["clip_id"].to_pylist() == ["c0", "c2", "c4"]
    assert after.rejects.to_pylist() == [
        {"clip_id": "r0", "uri": "/r0.wav", "reason": "silent: 0"},
        {"clip_id": "c1", "uri": "/c1.wav", "reason": "too long: 99 s"},
        {"clip_id": "c3", "uri": "/c3.wav", "reason": "not audio: png"},
    ]
    assert after.clips.schema == manifest.CLIPS
    assert len(before.clips) == 5
    assert manifest.with_rejects(before, []) == before


def test_with_rejects_of_a_clip_that_is_not_there_is_our_bug():
    with pytest.raises(AssertionError, match="elsewhere"):
        manifest.with_rejects(made(3), [("elsewhere", "silent: 0")])


# -- clips without labels


def test_files_are_clips_named_by_their_path(tmp_path):
    for name in ("b/two.FLAC", "one.wav", "03-01-06-01-02-01-12.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    for layout in ("files", "auto"):
        found = manifest.read(DataConfig(uri=str(tmp_path), layout=layout), with_labels=False)
        assert found.clips["clip_id"].to_pylist() == ["03-01-06-01-02-01-12.wav", "b/two.FLAC", "one.wav"]
        assert found.clips["uri"][1].as_py() == str(tmp_path / "b/two.FLAC")
        assert set(found.clips["label"].to_pylist()) == set(found.clips["speaker"].to_pylist()) == {""}
        assert found.clips.schema == manifest.CLIPS and not len(found.rejects)
        manifest.check_rejects(found, max_reject_fraction=0)


def test_folder_of_ravdess_names_has_labels_where_none_are_needed(tmp_path):
    (tmp_path / "03-01-06-01-02-01-12.wav").touch()
    found = manifest.read(DataConfig(uri=str(tmp_path)), with_labels=False)
    assert found.clips["label"].to_pylist() == ["fearful"]
    found = manifest.read(DataConfig(uri=str(tmp_path), layout="files"), with_labels=False)
    assert found.clips["label"].to_pylist() == [""]


def test_files_are_refused_where_labels_are_needed(tmp_path):
    with pytest.raises(UserError, match=r"data.layout is files, which has no labels .* give a CSV"):
        manifest.read(DataConfig(uri=str(tmp_path), layout="files"))


def test_csv_without_label_and_speaker(tmp_path):
    (tmp_path / "clips.csv").write_text("uri,age\na.wav,31\nb.wav,\n")
    data = DataConfig(uri=str(tmp_path / "clips.csv"))
    found = manifest.read(data, with_labels=False, carried=["age"])
    assert found.clips["uri"].to_pylist() == [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    assert found.clips["age"].to_pylist() == ["31", ""] and found.clips["label"].to_pylist() == ["", ""]
    with pytest.raises(UserError, match="no column 'label'"):
        manifest.read(data)
    with pytest.raises(UserError, match="no column 'size' to carry along, its columns are 'uri', 'age'"):
        manifest.read(data, with_labels=False, carried=["size"])
    with pytest.raises(UserError, match="is no CSV and has no columns, but 'age' are asked for"):
        manifest.read(DataConfig(uri=str(tmp_path)), with_labels=False, carried=["age"])
