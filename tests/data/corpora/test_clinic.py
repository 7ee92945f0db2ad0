"""A clinic's folder becomes clips with several labels, found by name in any of its studies."""

import logging
import re

import pytest

from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.made.clinic_folder import FILES, column, read
from tests.made.corpora import LABELS, clinic_corpus
from tests.made.csv_clips import reasons
from w2v2.config.data import DataConfig, FoldsConfig, SplitConfig
from w2v2.data import manifest, splits
from w2v2.errors import UserError


def test_recordings_are_matched_in_every_layout_of_folders(tmp_path):
    result = read(tmp_path)
    assert result.groups == (("tremor", "breathy"),)
    assert not len(result.rejects)
    assert result.clips.schema.names == [*manifest.CLIPS.names, "target_tremor", "target_breathy"]
    assert column(result, "uri") == {
        "A/r1.wav": f"{tmp_path}/A/r1.wav",
        "A/r2.flac": f"{tmp_path}/A/r2.flac",
        "B/u3": f"{tmp_path}/B/u3/waveform.mp3",
        "u4": f"{tmp_path}/u4/waveform.wav",
        "r5.ogg": f"{tmp_path}/r5.ogg",
    }
    assert list(column(result, "split").values()) == ["train", "train", "train", "test", "test"]
    assert list(column(result, "speaker").values()) == ["p1", "p1", "p2", "p3", "p4"]
    assert set(column(result, "label").values()) == {""}
    # The tables have their columns in different orders; empty is missing, not zero.
    assert list(column(result, "target_tremor").values()) == [1.0, 0.0, None, 0.0, None]
    assert list(column(result, "target_breathy").values()) == [0.0, None, 1.0, 0.0, 1.0]


def test_a_name_may_have_its_study_in_front(tmp_path):
    train = "file_name,speaker,tremor\nA/r1,p1,1\nB/u3,p2,1\n"
    result = read(tmp_path, train=train, test=None, labels="tremor")
    assert result.clips["clip_id"].to_pylist() == ["A/r1.wav", "B/u3"]


def test_a_name_with_its_suffix_is_taken_before_one_without(tmp_path):
    train = "file_name,speaker,tremor\nr.wav,p1,1\nr.wav.mp3,p1,1\n"
    result = read(tmp_path, files=("r.wav", "r.wav.mp3"), train=train, test=None, labels="tremor")
    assert result.clips["clip_id"].to_pylist() == ["r.wav", "r.wav.mp3"]


def test_heads_are_the_lines_of_the_labels_file(tmp_path):
    labels = "\ufeff breathy , tremor \n\n pitch\n"
    train = "file_name,speaker,tremor,breathy,pitch\nr1.wav,p1,1,0,1\n"
    result = read(tmp_path, labels=labels, train=train, test=None)
    assert result.groups == (("breathy", "tremor"), ("pitch",))
    assert result.clips.schema.names[-3:] == ["target_breathy", "target_tremor", "target_pitch"]


def test_labels_file_elsewhere(tmp_path):
    (tmp_path / "other.txt").write_text("tremor")
    (tmp_path / "corpus").mkdir()
    for name in (str(tmp_path / "other.txt"), "more/heads.txt"):
        (tmp_path / "corpus/more").mkdir(exist_ok=True)
        (tmp_path / "corpus/more/heads.txt").write_text("tremor")
        result = read(tmp_path / "corpus", labels=None, data={"labels_file": name})
        assert result.groups == (("tremor",),)


def test_regression_has_a_head_for_each_value(tmp_path):
    result = read(tmp_path, task="regression", labels="pitch,tremor")
    assert result.groups == (("pitch",), ("tremor",))
    assert list(column(result, "target_pitch").values()) == [101.5, None, 99.0, -1000.0, 7.0]


def test_without_labels_neither_labels_file_nor_speaker_is_wanted(tmp_path, caplog):
    tables = {"train": None, "test": "uid,age\nu4,31\nr5,\n", "labels": None}
    with caplog.at_level(logging.WARNING, "w2v2"):
        result = read(tmp_path, task="none", extra_columns=["age"], **tables)
    assert result.groups == () and result.clips.schema.names == [*manifest.CLIPS.names, "age"]
    assert column(result, "age") == {"u4": "31", "r5.ogg": ""}
    assert set(column(result, "speaker").values()) == {""} and not caplog.messages
    with pytest.raises(UserError, match=r"test.csv has no column 'size', its columns are"):
        read(tmp_path, task="none", extra_columns=["size"], **tables)


def test_val_is_a_split_of_its_own(tmp_path):
    result = read(tmp_path, val="uid,speaker,tremor,breathy\nA/r1.wav,p9,1,1\n", train=None)
    assert column(result, "split") == {"A/r1.wav": "val", "u4": "test", "r5.ogg": "test"}


@pytest.mark.parametrize(
    ("row", "clip_id", "reason"),
    [
        ("r9,p,1,0", "r9", "missing: no r9 and no r9/waveform.wav .* below {root}$"),
        ("waveform,p,1,0", "waveform", "missing: no waveform "),
        (
            "same,p,1,0",
            "same",
            r"found twice: same may be 'A/same.wav', 'B/same/waveform.wav'; .*data.studies",
        ),
        ("r5,p,,", "r5", "no target: 'tremor', 'breathy' are all empty"),
        ("r5,p,2,0", "r5", "bad target: tremor is '2', wanted 0, 1 or empty"),
        ("r5,p,1,yes", "r5", "bad target: breathy is 'yes', wanted 0, 1 or empty"),
        ("r5,p,1,nan", "r5", "bad target: breathy is 'nan', wanted 0, 1 or empty"),
        ("r5,,1,0", "r5", "speaker is empty"),
        (",p,1,0", "row 3 of train.csv", "file_name is empty"),
        ("r5,p,1", "r5", "wrong number of fields: 3, the header has 4"),
    ],
)
def test_a_bad_row_is_a_reject(tmp_path, row, clip_id, reason):
    files = (*FILES, "A/same.wav", "B/same/waveform.wav")
    train = f"file_name,speaker,tremor,breathy\nr1,p1,1,0\n{row}\n"
    result = read(tmp_path, files=files, train=train, test=None)
    assert result.clips["clip_id"].to_pylist() == ["A/r1.wav"]
    ((name, message),) = reasons(result).items()
    assert name == clip_id
    assert re.match(f"row 3 of train.csv: {reason.format(root=tmp_path)}", message), message


def test_bad_number_of_a_regression(tmp_path):
    for value in ("inf", "nan", "high"):
        train = f"file_name,speaker,pitch\nr1,p1,1\nr5,p,{value}\n"
        result = read(tmp_path, task="regression", train=train, test=None, labels="pitch")
        wanted = f"row 3 of train.csv: bad target: pitch is '{value}', wanted a number or empty"
        assert reasons(result) == {"r5": wanted}


def test_the_kinds_of_reasons_are_counted_without_their_rows(tmp_path):
    train = "uid,speaker,tremor,breathy\nr1,p,1,1\n" + "".join(f"gone{i},p,1,1\n" for i in range(5))
    result = read(tmp_path, train=train, test=None)
    with pytest.raises(
        UserError, match=r"5 of 6 clips .*: missing \(5\) \(such as gone0: row 3 of train.csv"
    ):
        manifest.check_rejects(result, max_reject_fraction=0.1)


# Studies

BOTH = ("A/r1.wav", "B/r1.wav", "A/r2.wav", "B/r3/waveform.flac", "C/r4.wav")


def test_a_column_study_says_which(tmp_path):
    train = "File_Name,Study,speaker,tremor\nr1,A,p,1\nr1,B,q,0\nr3,B,q,0\nr3,A,q,1\nr4,,q,1\n"
    result = read(tmp_path, files=BOTH, train=train, test=None, labels="tremor")
    assert result.clips["clip_id"].to_pylist() == ["A/r1.wav", "B/r1.wav", "B/r3", "C/r4.wav"]
    assert reasons(result)["r3"].startswith("row 5 of train.csv: missing: no r3 ")
    assert reasons(result)["r3"].endswith("/A")


def test_studies_are_picked(tmp_path, caplog):
    train = "uid,speaker,tremor\nr1,p,1\nr2,p,0\nr3,q,1\nr4,q,1\nr9,q,1\n"
    with caplog.at_level(logging.INFO, "w2v2"):
        result = read(
            tmp_path, files=BOTH, train=train, test=None, labels="tremor", data={"studies": ("A", "C")}
        )
    assert result.clips["clip_id"].to_pylist() == ["A/r1.wav", "A/r2.wav", "C/r4.wav"]
    assert list(reasons(result)) == ["r9"]
    assert "train.csv: data.studies leaves out 1 recordings" in caplog.text


def test_rows_of_other_studies_are_left_out_even_where_their_audio_is_missing(tmp_path):
    train = "uid,study,speaker,tremor\nr2,A,p,0\ngone,D,q,1\n"
    result = read(tmp_path, files=BOTH, train=train, test=None, labels="tremor", data={"studies": ("A",)})
    assert result.clips["clip_id"].to_pylist() == ["A/r2.wav"] and not len(result.rejects)


def test_study_deeper_down(tmp_path):
    files, train = ("y/A/r1.wav", "y/B/r1.wav"), "uid,speaker,tremor\nr1,p,1\n"
    result = read(tmp_path, files=files, train=train, test=None, labels="tremor", data={"studies": ("y/B",)})
    assert result.clips["clip_id"].to_pylist() == ["y/B/r1.wav"]


def test_unknown_study(tmp_path):
    wanted = "data.studies names 'D', where .* has no recordings; its subfolders with recordings are 'A', 'B'"
    with pytest.raises(UserError, match=wanted):
        read(tmp_path, data={"studies": ("A", "D")})


# Mistakes


def test_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"task.kind=classes: set --task.kind multi_label"):
        read(tmp_path, task="classes")


def test_renaming_of_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"got task.kind=multi_label, which has none: remove data.classes"):
        read(tmp_path, data={"classes": {"tremor": "shaking"}})


def test_folder_without_tables(tmp_path):
    with pytest.raises(
        UserError,
        match=r"has no train.csv, val.csv or test.csv \(or .tsv, .parquet, .xlsx\), .*set --data.layout csv",
    ):
        read(tmp_path, train=None, test=None)


def test_folder_without_audio(tmp_path):
    with pytest.raises(UserError, match=r"holds no audio file .*found 2 .csv, 1 .txt"):
        read(tmp_path, files=())


def test_table_without_rows(tmp_path):
    with pytest.raises(UserError, match=r"test.csv has a header and no rows: wanted one row per recording"):
        read(tmp_path, test="uid,speaker,tremor,breathy\n")


def test_table_without_names(tmp_path):
    wanted = r"train.csv has no column 'file_name', its columns are 'name', 'tremor': .* file_name or uid"
    with pytest.raises(UserError, match=wanted):
        read(tmp_path, train="name,tremor\nr1,1\n")


def test_label_that_is_no_column(tmp_path):
    wanted = (
        r"train.csv has no column 'hoarse', its columns are 'file_name', 'speaker', 'tremor', 'breathy', "
        r"'pitch': labels.txt names it \(data.labels_file\)"
    )
    with pytest.raises(UserError, match=wanted):
        read(tmp_path, labels="tremor,hoarse\n")


def test_column_twice(tmp_path):
    with pytest.raises(UserError, match=r"train.csv has two columns 'tremor': rename one"):
        read(tmp_path, train="uid,speaker,tremor,breathy,tremor\nr1,p,1,1,1\n")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (None, r"data.labels_file, with one head per line, cannot be read: .*labels.txt: no such file"),
        (" \n\n", "labels.txt is empty: wanted one head per line, its labels separated by commas"),
        ("tremor,,breathy\n", "labels.txt has a comma with no label next to it: remove the comma"),
        ("tremor,\nbreathy\n", "labels.txt has a comma with no label next to it: remove the comma"),
        ("tremor\nbreathy,tremor\n", "labels.txt names 'tremor' twice: name each label once"),
    ],
)
def test_labels_file_that_cannot_be_used(tmp_path, labels, wanted):
    with pytest.raises(UserError, match=wanted):
        read(tmp_path, labels=labels)


def test_the_same_recording_in_two_splits(tmp_path):
    wanted = (
        r"2 recordings are listed more than once in train.csv, val.csv and test.csv: "
        r"'A/r1.wav \(row 2 of train.csv, row 2 of test.csv\)', 'u4 \(row 3 of test.csv, row 4 of test.csv\)'"
    )
    test = "uid,speaker,tremor,breathy\nA/r1,p1,1,0\nu4,p3,1,0\nu4,p3,1,1\n"
    with pytest.raises(UserError, match=wanted):
        read(tmp_path, test=test)


# The corpus of the tests, local and in a bucket


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    return clinic_corpus(tmp_path_factory.mktemp("clinic"))


def test_corpus_has_no_speaker_in_two_splits(clinic):
    result = manifest.read(DataConfig(uri=str(clinic), layout="clinic"), task="multi_label")
    assert result.groups == (("tremor", "breathy"), ("monotone",))
    assert len(result.clips) == 24 and not len(result.rejects)
    clips = splits.assign(result.clips, SplitConfig(), FoldsConfig(), need_val=True)
    splits.audit(clips)
    assert set(clips["split"].to_pylist()) == {"train", "val", "test"}
    for name in LABELS:
        assert 0 < result.clips[f"target_{name}"].null_count < 5


def test_corpus_in_a_bucket_is_listed_once(clinic, caplog):
    with FakeGcs("clinic") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in gcs_environment(server).items():
            patch.setenv(name, value)
        for path in clinic.rglob("*"):
            if path.is_file():
                content = path.read_bytes() if path.suffix in (".csv", ".txt", ".json") else b"x"
                server.put("clinic", f"all/{path.relative_to(clinic)}", content)
        remove_column(server, "all/train.csv", "speaker")
        before = len(server.requests)
        with caplog.at_level(logging.WARNING, "w2v2"):
            result = manifest.read(DataConfig(uri="gs://clinic/all", layout="clinic"), task="multi_label")
        requests = server.requests[before:]
    local = manifest.read(DataConfig(uri=str(clinic), layout="clinic"), task="multi_label")
    keep = ["clip_id", "split", *(f"target_{name}" for name in LABELS)]
    assert result.clips.select(keep).equals(local.clips.select(keep))
    speakers = dict(zip(local.clips["clip_id"].to_pylist(), local.clips["speaker"].to_pylist(), strict=True))
    by_clip = dict(zip(result.clips["clip_id"].to_pylist(), result.clips["speaker"].to_pylist(), strict=True))
    alone = {name for name in by_clip if name.startswith("picture/rec") and by_clip[name] == name}
    assert len(alone) == 8 and all(by_clip[name] == speakers[name] for name in by_clip if name not in alone)
    assert caplog.messages[0].startswith("8 of 24 recordings have no speaker")
    assert result.clips["uri"][0].as_py() == "gs://clinic/all/picture/rec000.wav"
    # One list, the two tables and labels.txt, and metadata.json of the twelve in train that have one.
    assert sum(request.path.endswith("/o") for request in requests) == 1
    assert len(requests) == 1 + 3 + 12


def remove_column(server, name, column):
    header, *rows = [line.split(",") for line in server.get("clinic", name).decode().splitlines()]
    keep = [i for i, title in enumerate(header) if title != column]
    text = "\n".join(",".join(row[i] for i in keep) for row in [header, *rows])
    server.put("clinic", name, text.encode())
