"""The extraction whole: real files, a real Ray, DuckDB and a bucket on loopback; vectors against transformers."""

import logging
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from tests.made.accounting import check_accounts
from tests.made.extraction import NUM_CLIPS, accounted, extract_config, rows_of, small_corpus, vectors_of
from w2v2.audio.decoding import load_waveform
from w2v2.cluster import embedding
from w2v2.cluster.embedding import Allocation
from w2v2.config import command_line
from w2v2.config.data import AudioConfig, DataConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.model import EncoderConfig
from w2v2.config.resources import ExtractionResources
from w2v2.jobs import extract_embeddings
from w2v2.models.pretrained import load_encoder
from w2v2.storage import files as storage
from w2v2.storage import run_directory

ONE_ENCODER = ExtractionResources(num_workers=1, clips_per_part=5)


BROKEN = {"broken/text.wav": b"not audio", "broken/empty.wav": b"", "broken/cut.flac": b"fLaC\0\0\0\x22"}


# The query that the README gives, word for word.
NEAREST = """
SELECT a.clip_id, b.clip_id AS nearest,
       array_cosine_distance(a.embedding::FLOAT[48], b.embedding::FLOAT[48]) AS distance
FROM embeddings AS a JOIN embeddings AS b
  ON a.model = b.model AND a.pooling = b.pooling AND a.layer = b.layer AND a.clip_id <> b.clip_id
WHERE a.layer = 'last'
QUALIFY row_number() OVER (PARTITION BY a.clip_id ORDER BY distance, b.clip_id) <= 3
ORDER BY a.clip_id, distance
"""


@pytest.fixture(scope="module")
def audio(corpus, tmp_path_factory) -> Path:
    return small_corpus(corpus, tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, audio, ray_session):
    """A finished run over good and broken files, all layers: its config, its numbers and its last line."""
    tmp_path = tmp_path_factory.mktemp("finished")
    folder = shutil.copytree(audio, tmp_path / "audio")
    for name, data in BROKEN.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    config = extract_config(
        tmp_path, folder, data=DataConfig(uri=str(folder), max_reject_fraction=0.2), encoder=VectorConfig(layers="all")
    )  # fmt: skip
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("w2v2")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    metrics = extract_embeddings.main(config)
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    return config, metrics, lines


def test_every_clip_is_accounted_for(finished):
    config, metrics, lines = finished
    assert accounted(metrics) == (NUM_CLIPS, 0, len(BROKEN))
    assert check_accounts(config.run, "\n".join(lines))["rejected"] == {"not audio": 2, "empty": 1}
    assert lines[-1].startswith(
        f"{NUM_CLIPS + 3} clips: {NUM_CLIPS} written, 0 already in the table, 3 rejected; duckdb://"
    )
    progress = [line for line in lines if line.startswith("embeddings: ")]
    assert re.fullmatch(
        rf"embeddings: {NUM_CLIPS + 3} of {NUM_CLIPS + 3} clips, in [\d:]+, [\d.e-]+ hours of audio/s",
        progress[-1],
    )
    rejects = pq.read_table(Path(config.run) / "rejects.parquet").to_pylist()
    assert {row["clip_id"]: row["kind"] for row in rejects} == {
        "broken/text.wav": "not audio", "broken/empty.wav": "empty", "broken/cut.flac": "not audio",
    }  # fmt: skip
    with duckdb.connect(str(Path(config.run) / "embeddings.db"), read_only=True) as connection:
        stored = connection.sql("SELECT clip_id, reason FROM embeddings_rejects").fetchall()
    assert dict(stored) == {row["clip_id"]: row["reason"] for row in rejects}


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_several_blocks_at_once_give_the_same_rows(
    tmp_path, audio, finished, monkeypatch, local, ray_session
):
    """As on a GPU, where one block is prepared while another is computed."""
    monkeypatch.setattr(Allocation, "blocks_at_once", embedding.BLOCKS_PER_GPU)
    monkeypatch.setattr(embedding, "BLOCK_BYTES", 300_000)  # one or two clips
    config = extract_config(
        tmp_path, audio, encoder=VectorConfig(layers="all"), resources=ONE_ENCODER, local=local
    )
    assert accounted(extract_embeddings.main(config)) == (NUM_CLIPS, 0, 0)
    expected = vectors_of(rows_of(finished[0]))
    computed = vectors_of(rows_of(config))
    assert computed.keys() == expected.keys()
    assert all(np.allclose(computed[key], expected[key], atol=1e-5) for key in expected)


def test_vectors_are_those_of_transformers_on_each_clip_alone(finished):
    config, _, _ = finished
    model, extractor = (
        load_encoder(EncoderConfig(), seed=0).model.eval(),
        Wav2Vec2FeatureExtractor(do_normalize=True),
    )
    rows = rows_of(config)
    assert Counter(row["layer"] for row in rows) == {"0": NUM_CLIPS, "1": NUM_CLIPS, "last": NUM_CLIPS}
    for row in rows:
        waveform = load_waveform(Path(row["uri"]).read_bytes(), AudioConfig())
        assert row["sample_rate"] == 48_000 and row["duration_s"] == len(waveform) / 16_000
        inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            output = model(**inputs, output_hidden_states=True)
        # transformers gives the last of the hidden states without the encoder's final normalisation.
        last = row["layer"] == "last"
        state = output.last_hidden_state if last else output.hidden_states[int(row["layer"])]
        expected = state[0].mean(0).numpy()
        assert np.abs(np.array(row["embedding"]) - expected).max() < 1e-5
        assert (row["start_s"], row["end_s"], row["dim"]) == (0, row["duration_s"], 48)


def test_nearest_neighbours_of_each_clip(finished):
    config, _, _ = finished
    with duckdb.connect(str(Path(config.run) / "embeddings.db"), read_only=True) as connection:
        neighbours = connection.sql(NEAREST).fetchall()
    rows = [row for row in rows_of(config) if row["layer"] == "last"]
    matrix = np.array([row["embedding"] for row in rows], dtype=np.float64)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    distances = 1 - matrix @ matrix.T + 10 * np.eye(len(rows))
    names = [row["clip_id"] for row in rows]
    assert len(neighbours) == 3 * NUM_CLIPS
    for name in names:
        nearest = [distance for clip_id, _, distance in neighbours if clip_id == name]
        assert nearest == pytest.approx(sorted(distances[names.index(name)])[:3], abs=1e-5)


def test_page_and_run_directory(finished):
    config, metrics, _ = finished
    run = Path(config.run)
    for name in (
        "config.yaml",
        "manifest.parquet",
        "metrics.json",
        "report.html",
        "plots/lengths.png",
    ):
        assert (run / name).stat().st_size > 0
    assert list((run / "plots").glob("map_*.png"))
    text = (run / "report.html").read_text()
    for word in (
        "not audio",
        "broken/empty.wav",
        "clips/s",
        "hours of audio/s",
        "principal components",
    ):
        assert word in text
    assert run_directory.read_metrics(str(run)) == metrics | {"warnings": []}
    assert command_line.parse(ExtractConfig, ["--config", str(run / "config.yaml")]).encoder == config.encoder


def test_run_again_changes_nothing_and_computes_nothing(finished):
    config, _, _ = finished
    before = rows_of(config)
    page = (Path(config.run) / "report.html").read_bytes()
    again = extract_embeddings.main(config)
    assert rows_of(config) == before
    assert accounted(again) == (0, NUM_CLIPS, len(BROKEN)) and again["num_made"] == 0
    assert (Path(config.run) / "report.html").read_bytes() == page, (
        "the page is that of the attempt that worked"
    )
    manifest = pq.read_table(Path(config.run) / "manifest.parquet")
    for row in manifest.to_pylist():
        assert bool(row["vectors_in"]) == (row["duration_s"] > 0) == (row["clip_id"] not in BROKEN)


@pytest.mark.slow
def test_another_run_into_the_same_table_computes_nothing(finished):
    config, _, _ = finished
    before = rows_of(config)
    table = f"duckdb://{config.run}/embeddings.db?table=embeddings"
    other = extract_embeddings.main(replace(config, run=f"{config.run}2", table=table))
    # Knows nothing of the files but what it reads.
    assert accounted(other) == (0, NUM_CLIPS, len(BROKEN)) and other["audio_hours"] == 0
    assert rows_of(config) == before


def test_audio_parts_table_and_run_in_a_bucket(tmp_path, audio, finished, ray_bucket):
    config = extract_config(
        tmp_path,
        ray_bucket.upload(audio, "audio"),
        run=f"gs://{ray_bucket.name}/runs/a",
        encoder=VectorConfig(layers="all"),
        resources=ONE_ENCODER,
    )
    assert accounted(extract_embeddings.main(config)) == (NUM_CLIPS, 0, 0)
    assert accounted(extract_embeddings.main(config)) == (0, NUM_CLIPS, 0)
    assert "runs/a/report.html" in ray_bucket.names()
    rows = []
    for name in ray_bucket.names():
        if re.fullmatch(r"runs/a/embeddings/[^/]+\.parquet", name):
            rows += pq.read_table(pa.BufferReader(ray_bucket.get(name))).to_pylist()
    local = rows_of(finished[0])
    vectors, expected = vectors_of(rows), vectors_of(local)
    assert vectors.keys() == expected.keys()
    assert max(np.abs(vectors[key] - expected[key]).max() for key in vectors) < 1e-5
    assert {r["clip_id"]: r["checksum"] for r in rows} == {r["clip_id"]: r["checksum"] for r in local}
    assert storage.is_remote(rows[0]["uri"])
