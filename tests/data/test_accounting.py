"""Given = used + rejected + passed over, for every layout."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.accounting import account

RAVDESS = "03-01-06-01-02-01-{:02}.wav"


def total(numbers: dict) -> int:
    return numbers["used"] + sum(numbers["rejected"].values()) + sum(numbers["passed_over"].values())


def test_a_folder_with_all_that_folders_have(tmp_path: Path) -> None:
    for actor in range(1, 5):
        (tmp_path / RAVDESS.format(actor)).touch()
    (tmp_path / "03-02-06-01-02-01-01.wav").touch()  # song
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._03-01-06-01-02-01-01.wav").touch()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "other.wav").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.wav", "wb"):
        pass
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    corpus = manifest.read(DataConfig(uri=str(tmp_path), layout="ravdess"))
    numbers = account(corpus)
    assert numbers["given"] == 11 == total(numbers)
    assert numbers["used"] == 4
    assert numbers["rejected"] == {"name not RAVDESS": 2, "name is no text": 1}
    assert numbers["passed_over"] == {
        "hidden files": 2,
        "files that are not audio": 1,
        "other vocal channel": 1,
    }
    assert all(text.isprintable() for text in corpus.rejects["uri"].to_pylist())


def test_dropped_classes_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("uri,label,speaker\na.wav,x,1\nb.wav,y,2\nc.wav,z,3\nd.wav,,3\n")
    corpus = manifest.read(DataConfig(uri=str(tmp_path / "c.csv"), classes={"z": "drop"}))
    numbers = account(corpus)
    assert numbers["given"] == 4 == total(numbers)
    assert numbers["passed_over"] == {"dropped classes": 1} and numbers["rejected"] == {"label is empty": 1}


def test_what_is_tolerated_is_counted_by_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tolerated = ["", "no size in the header", "samples up to 12; no mark of the end", "samples up to 99", ""]
    clips = pa.table({"clip_id": list("abcde"), "tolerated": tolerated})
    corpus = manifest.Manifest(clips=clips, rejects=manifest.REJECTS.empty_table())
    wanted = {"samples on another scale": 2, "no size in the header": 1, "no mark of the end": 1}
    assert account(corpus)["tolerated"] == wanted
