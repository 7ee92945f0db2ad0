"""Recordings named one by one: several paths, folders among them, a list on standard input, a single file."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from w2v2.config.data import DataConfig
from w2v2.data import file_facts, manifest
from w2v2.data.given_files import recordings, with_given_files
from w2v2.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.flac", "deep/c.wav", "deep/d.wav", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no audio")
        else:
            soundfile.write(path, np.zeros(8000), 16_000)
    return tmp_path


def clip_ids(data: DataConfig) -> list[str]:
    corpus = manifest.read(data, task="none")
    return file_facts.add_file_facts(corpus, data).clips["clip_id"].to_pylist()


def test_files_and_folders_are_clips_below_what_they_share(folder):
    data = with_given_files(DataConfig(files=(f"{folder}/a.wav", f"{folder}/deep", f"{folder}/a.wav")))
    assert data.uri == str(folder) and clip_ids(data) == ["a.wav", "deep/c.wav", "deep/d.wav"]


def test_a_single_recording_is_a_clip(folder, monkeypatch):
    for data in (DataConfig(files=(f"{folder}/b.flac",)), DataConfig(uri=f"{folder}/b.flac")):
        assert clip_ids(with_given_files(data)) == ["b.flac"]
    monkeypatch.chdir(folder)
    assert clip_ids(with_given_files(DataConfig(files=("b.flac",)))) == ["b.flac"]


def test_one_folder_or_csv_is_the_data_itself(folder):
    assert with_given_files(DataConfig(files=(f"{folder}/deep",))) == DataConfig(uri=f"{folder}/deep")
    assert with_given_files(DataConfig(files=("x.csv",))).uri == f"{Path.cwd()}/x.csv"
    assert with_given_files(DataConfig()) == DataConfig()


def test_a_list_of_names_on_standard_input(folder):
    listed = [f"{folder}/b.flac\n", "\n", f"{folder}/deep/c.wav\n"]
    data = with_given_files(DataConfig(files=("-",)), listed=listed)
    assert recordings(data) == [f"{folder}/b.flac", f"{folder}/deep/c.wav"]
    assert clip_ids(data) == ["b.flac", "deep/c.wav"]


def test_what_was_made_absolute_stays(folder):
    data = with_given_files(DataConfig(files=(f"{folder}/a.wav", f"{folder}/deep")))
    assert with_given_files(data) == data


@pytest.mark.parametrize(
    "data, message",
    [
        (DataConfig(files=("-",)), "the list on standard input (-) names no file"),
        (DataConfig(uri="x", files=("a.wav",)), "data.uri=x and the files a.wav are given: leave out one"),
        (DataConfig(files=("gs://first/x.wav", "gs://second/y.wav")), "are in different buckets"),
        (DataConfig(files=("gs://first/x.wav", "y.wav")), "of this machine and of gs:// are given together"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(data, message):
    with pytest.raises(UserError, match=re.escape(message)):
        with_given_files(data, listed=[])
