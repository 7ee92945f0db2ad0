"""Corpora with transcripts: LibriSpeech's and Common Voice's layouts, and a CSV with a text column."""

import numpy as np
import pytest
import soundfile

from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.corpora.demo import make_sentences
from w2v2.errors import UserError


def write_clip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(1600), 16_000)


def read(uri, **settings):
    return manifest.read(DataConfig(uri=str(uri), **settings), task="transcript")


def test_librispeech(tmp_path):
    for part in (
        "train-clean-100/84/121123/84-121123-0000",
        "dev-clean/99/1/99-1-0000",
        "test-other/7/2/7-2-0000",
    ):
        write_clip(tmp_path / f"{part}.flac")
    write_clip(tmp_path / "test-other/7/2/7-2-0009.flac")
    for part, text in (
        ("train-clean-100/84/121123/84-121123", "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 GONE\n"),
        ("dev-clean/99/1/99-1", "99-1-0000 WELL\n\n"),
        ("test-other/7/2/7-2", "7-2-0000 \u00c9T\u00c9 L'AUTRE\n"),
    ):
        (tmp_path / f"{part}.trans.txt").write_text(text, encoding="utf-8")
    corpus = read(tmp_path, layout="librispeech")
    rows = {row["clip_id"]: row for row in corpus.clips.to_pylist()}
    assert {(row["speaker"], row["split"], row["text"]) for row in rows.values()} == {
        ("84", "train", "GO DO YOU HEAR"),
        ("99", "val", "WELL"),
        ("7", "test", "\u00c9T\u00c9 L'AUTRE"),
    }
    assert corpus.rejects["kind"].to_pylist() == ["missing"]
    assert "84-121123-0001" in corpus.rejects["reason"][0].as_py()


def test_common_voice_keeps_quotes_and_takes_its_own_splits(tmp_path):
    header = "client_id\tpath\tsentence\tup_votes\n"
    (tmp_path / "train.tsv").write_text(
        header + 'a1\tx.mp3\t"Ja", sagte er.\t2\n\tz.mp3\tnein\t1\n', encoding="utf-8"
    )
    (tmp_path / "dev.tsv").write_text(header + "b1\ty\tgut\t2\n", encoding="utf-8")
    (tmp_path / "validated.tsv").write_text(header + "a1\tx.mp3\tnicht gelesen\t2\n", encoding="utf-8")
    corpus = read(tmp_path, layout="common_voice")
    rows = [(r["clip_id"], r["speaker"], r["split"], r["text"]) for r in corpus.clips.to_pylist()]
    assert rows == [("x.mp3", "a1", "train", '"Ja", sagte er.'), ("y.mp3", "b1", "val", "gut")]
    assert corpus.clips["uri"][0].as_py() == str(tmp_path / "clips" / "x.mp3")
    assert corpus.rejects["reason"].to_pylist() == ["row 3 of train.tsv: client_id is empty"]


def test_the_text_of_a_csv_is_kept_as_it_is(tmp_path):
    (tmp_path / "c.csv").write_text('uri,speaker,satz\na.wav,s,"Hallo, Welt"\nb.wav,t,\n')
    corpus = read(tmp_path / "c.csv", text_column="satz")
    assert corpus.clips["text"].to_pylist() == ["Hallo, Welt", ""]
    with pytest.raises(UserError, match="has no column 'text', its columns are 'uri', 'speaker', 'satz'"):
        read(tmp_path / "c.csv")


def test_transcripts_and_other_columns_can_be_extra_columns(tmp_path):
    (tmp_path / "cv").mkdir()
    header = "client_id\tpath\tsentence\tgender\n"
    (tmp_path / "cv" / "train.tsv").write_text(header + 'a1\tx.mp3\t"Ja", sagte er.\tfemale\n')
    data = DataConfig(uri=str(tmp_path / "cv"), layout="common_voice")
    rows = manifest.read(data, task="none", extra_columns=("sentence", "gender")).clips.to_pylist()
    assert [(row["sentence"], row["gender"]) for row in rows] == [('"Ja", sagte er.', "female")]
    with pytest.raises(UserError, match="has no column 'age'"):
        manifest.read(data, task="none", extra_columns=("age",))
    write_clip(tmp_path / "ls/test/7/2/7-2-0000.flac")
    (tmp_path / "ls/test/7/2/7-2.trans.txt").write_text("7-2-0000 WELL THEN\n")
    data = DataConfig(uri=str(tmp_path / "ls"), layout="librispeech")
    assert manifest.read(data, task="none", extra_columns=("text",)).clips["text"].to_pylist() == [
        "WELL THEN"
    ]
    with pytest.raises(UserError, match="no extra column but 'text', and 'age' are asked for"):
        manifest.read(data, task="none", extra_columns=("text", "age"))


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"a.wav": ""}, {"layout": "librispeech"}, r"has no \*.trans.txt file"),
        (
            {"a.wav": ""},
            {"layout": "common_voice"},
            "has neither train.tsv, dev.tsv, test.tsv nor validated.tsv",
        ),
        ({"train.tsv": "path\tsentence\n"}, {"layout": "common_voice"}, "has no column 'client_id'"),
        ({"03-01-06-01-02-01-12.wav": ""}, {}, "whose names hold no transcript"),
        ({"a.wav": ""}, {"layout": "deam"}, "got task.kind=transcript"),
        ({"a.wav": ""}, {"layout": "clinic"}, "got task.kind=transcript"),
    ],
)
def test_data_without_transcripts(tmp_path, files, settings, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path, **settings)


def test_the_built_in_sentences_are_all_different_and_no_speaker_lacks_one(tmp_path):
    root = make_sentences(tmp_path, num_sentences=1)
    corpus = read(root, layout="librispeech")
    assert len(corpus.clips) == 24 == len(set(corpus.clips["text"].to_pylist()))
    assert len(set(corpus.clips["speaker"].to_pylist())) == 24 and not len(corpus.rejects)
    assert make_sentences(tmp_path, num_sentences=1) == root
