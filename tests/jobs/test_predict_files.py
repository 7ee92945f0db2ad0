"""`w2v2 predict` of named recordings: lines on the terminal, windows of a long one with their picture."""

import csv
import io

import matplotlib.image
import numpy as np
import pytest
import soundfile

import w2v2
from tests.models.test_saved_model import CARD, CLASSES, CLIPS, make
from w2v2.command import main
from w2v2.models.saved_model import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    uri = str(tmp_path_factory.mktemp("model"))
    save_model(uri, *make(), card=CARD, made_from=CLIPS)
    return uri


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(1)
    for name, seconds in (("short.wav", 1), ("long.wav", 90)):
        soundfile.write(tmp_path / name, 0.1 * rng.normal(size=16_000 * seconds), 16_000)
    return tmp_path


def rows(folder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "run" / "predictions.csv").open()))


def predict(model, folder, *words) -> int:
    return main(["predict", *map(str, words), "--model", model, "--run", str(folder / "run")])


def test_a_recording_is_a_line(model, files, caplog):
    assert predict(model, files, files / "short.wav") == 0
    (row,) = rows(files)
    assert row["clip_id"] == "short.wav" and row["predicted"] in CLASSES
    assert f"short.wav     0.00 to    1.00 s  {row['predicted']} 0." in caplog.text


def test_a_list_on_standard_input(model, files, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{files}/short.wav\n"))
    assert predict(model, files, "-") == 0
    assert [row["clip_id"] for row in rows(files)] == ["short.wav"]


def test_windows_of_a_long_recording_and_their_picture(model, files, pictures):
    assert (
        predict(model, files, files / "short.wav", files / "long.wav", "--window_s", "4", "--hop_s", "2") == 0
    )
    windows = [row for row in rows(files) if row["clip_id"] == "long.wav"]
    assert [float(row["start_s"]) for row in windows] == [2.0 * place for place in range(44)]
    assert float(windows[-1]["end_s"]) == 90.0
    samples, rate = soundfile.read(files / "long.wav", dtype="float32")
    part = w2v2.predict(model, samples[4 * rate : 8 * rate], sampling_rate=rate)
    for name in CLASSES:
        assert float(windows[2][f"prob_{name}"]) == pytest.approx(part[f"prob_{name}"][0], abs=1e-5)
    picture = matplotlib.image.imread(files / "run" / "plots" / "timeline.png")
    assert picture.shape[1] > 800 and len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 20


def test_a_missing_file_is_a_sentence(model, files, capsys):
    assert predict(model, files, files / "none.wav") == 2
    assert "the only clip was rejected" in capsys.readouterr().err
