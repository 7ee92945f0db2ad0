"""What notebooks use: the numbers are the jobs', arrays equal files, and importing w2v2 costs nothing."""

import csv
import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import soundfile

import w2v2
from tests import ROOT
from tests.models.test_saved_model import CARD, CLASSES, CLIPS, make
from w2v2.config.data import DataConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.finetune import PredictConfig
from w2v2.errors import UserError
from w2v2.jobs import extract_embeddings, predict
from w2v2.models.saved_model import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three recordings of different lengths and rates."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for name, rate, num_samples in [("a", 16_000, 9_000), ("b", 8_000, 20_000), ("c", 44_100, 30_000)]:
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.normal(size=num_samples), rate, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    uri = str(tmp_path_factory.mktemp("model"))
    save_model(uri, *make(), card=CARD, made_from=CLIPS)
    return uri


def test_importing_the_package_imports_nothing_of_it():
    code = "import sys; before = set(sys.modules); import w2v2; print(sorted(n for n in set(sys.modules) - before if not n.startswith('w2v2') and '.' not in n))"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"numpy", "torch", "pyarrow", "ray"} & set(eval(done.stdout))
    (line,) = [line for line in done.stderr.splitlines() if line.endswith("| w2v2")]
    assert int(line.split("|")[1]) < 50_000  # microseconds


def test_it_has_only_the_names_that_it_offers():
    assert dir(w2v2) == sorted(w2v2.__all__)
    with pytest.raises(AttributeError, match="module 'w2v2' has no attribute 'train'"):
        _ = w2v2.train


def test_predictions_are_those_of_the_job(folder, model, tmp_path):
    config = PredictConfig(
        model=model, run=str(tmp_path), data=DataConfig(uri=str(folder)), window_s=0.5, hop_s=0.25, local=True
    )
    predict.main(config)
    with open(tmp_path / "predictions.csv", newline="") as file:
        written = list(csv.DictReader(file))
    frame = w2v2.predict(w2v2.load_model(model), folder, window_s=0.5, hop_s=0.25)
    assert list(frame.columns) == list(written[0])
    assert frame.astype(str).values.tolist() == [list(row.values()) for row in written]


def test_vectors_are_those_of_the_job(folder, tmp_path):
    config = ExtractConfig(
        run=str(tmp_path), data=DataConfig(uri=str(folder)), encoder=VectorConfig(layers="all"), local=True
    )
    extract_embeddings.main(config)
    with duckdb.connect(str(tmp_path / "embeddings.db"), read_only=True) as database:
        written = database.sql(
            "SELECT clip_id, layer, start_s, end_s, embedding FROM embeddings ORDER BY clip_id, layer"
        ).fetchall()
    frame = w2v2.embed(str(folder), layers="all").sort_values(["clip_id", "layer"])
    assert frame[["clip_id", "layer", "start_s", "end_s"]].values.tolist() == [
        list(row[:4]) for row in written
    ]
    np.testing.assert_allclose(np.stack(frame.embedding), [row[4] for row in written], atol=1e-6)


def test_an_array_is_as_good_as_its_file(folder, model):
    for name in "abc":
        samples, rate = soundfile.read(folder / f"{name}.wav", dtype="float32")
        from_file, from_array = (
            w2v2.embed(clip, sampling_rate=rate).embedding[0] for clip in (folder / f"{name}.wav", samples)
        )
        np.testing.assert_array_equal(from_file, from_array)
        stereo = np.stack([samples, samples], axis=1)
        np.testing.assert_allclose(w2v2.embed(stereo, sampling_rate=rate).embedding[0], from_file, atol=1e-5)
    whole = w2v2.predict(model, [folder / "a.wav", folder / "b.wav"], output="arrow")
    assert isinstance(whole, pa.Table)
    assert set(whole["predicted"].to_pylist()) <= set(CLASSES)


def test_integers_are_scaled_by_their_range():
    samples = (8_000 * np.sin(np.arange(16_000) / 9)).astype(np.int16)
    np.testing.assert_allclose(
        w2v2.embed(samples, sampling_rate=16_000).embedding[0],
        w2v2.embed(samples / 32_768, sampling_rate=16_000).embedding[0],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "clips, options, message",
    [
        ([], {}, "no clip was given"),
        (np.zeros(16_000), {}, "sampling_rate must say the rate of arrays in Hz, got 0"),
        (np.zeros(16_000), {"sampling_rate": 16_000}, "clip 0: silent"),
        (np.ones((2, 16_000)), {"sampling_rate": 16_000}, r"an array must be \[samples\] or \[samples, channels\], got the shape \[2, 16000\]"),
        ("nowhere.wav", {}, "nowhere.wav"),
        (np.random.default_rng(0).normal(size=900), {"sampling_rate": 16_000}, "clip 0: too short"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_a_sentence(clips, options, message):
    with pytest.raises(UserError, match=message):
        w2v2.embed(clips, **options)


def test_a_run_is_its_numbers_and_tables(folder, model, tmp_path):
    config = PredictConfig(model=model, run=str(tmp_path), data=DataConfig(uri=str(folder)), local=True)
    predict.main(config)
    run = w2v2.read_run(tmp_path)
    assert run.metrics["num_rows"] == 3 and run.settings["model"] == model
    assert "rejects" in run.tables and len(run["rejects"]) == 0
    with pytest.raises(UserError, match=r"has no table 'trials'; its tables are .*rejects"):
        run.arrow("trials")
    with pytest.raises(UserError, match=r"is no run directory: it has no config\.yaml"):
        w2v2.read_run(folder)
