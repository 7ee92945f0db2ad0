"""The extraction whole: real files, a real Ray, DuckDB, Parquet, BigQuery and buckets on loopback, killed and run again."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from transformers import Wav2Vec2FeatureExtractor

from tests import ROOT
from tests.cloud.bigquery import FakeBigQuery, bigquery_environment
from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.made.accounting import check_accounts
from w2v2.audio.decoding import load_waveform
from w2v2.config import command_line
from w2v2.config.data import AudioConfig, DataConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.model import EncoderConfig
from w2v2.config.resources import ExtractionResources
from w2v2.errors import UserError
from w2v2.jobs import extract_embeddings
from w2v2.models.pretrained import load_encoder
from w2v2.storage import files as storage

NUM_CLIPS = 24
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


def small_corpus(corpus: Path, folder: Path) -> Path:
    """Clips of RAVDESS's names and different lengths."""
    for index, path in enumerate(sorted(corpus.rglob("*.wav"))[::7][:NUM_CLIPS]):
        waveform, rate = soundfile.read(path)
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        soundfile.write(
            folder / path.parent.name / path.name, waveform[: len(waveform) - 997 * (index % 7)], rate
        )
    return folder


def make_config(tmp_path: Path, audio: Path | str, **changes) -> ExtractConfig:
    base = ExtractConfig(
        run=str(tmp_path / "run"),
        data=DataConfig(uri=str(audio)),
        resources=ExtractionResources(num_workers=2, clips_per_part=5),
    )
    return replace(base, **changes)


def rows_of(config: ExtractConfig) -> list[dict]:
    """The rows of a DuckDB table, in order."""
    path = Path(config.run) / "embeddings.db"
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.sql(
            "FROM embeddings ORDER BY clip_id, model, pooling, layer, start_s"
        ).to_arrow_table()
    return rows.to_pylist()


def vectors_of(rows: list[dict]) -> dict[tuple, np.ndarray]:
    return {(r["clip_id"], r["layer"], r["start_s"]): np.array(r["embedding"]) for r in rows}


def accounted(metrics: dict) -> tuple[int, int, int]:
    assert metrics["num_clips"] == metrics["written"] + metrics["there"] + metrics["rejected"]
    return metrics["written"], metrics["there"], metrics["rejected"]


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
    config = make_config(
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
        f"{NUM_CLIPS + 3} clips: {NUM_CLIPS} written, 0 already there, 3 rejected; duckdb://"
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
        found = connection.sql(NEAREST).fetchall()
    rows = [row for row in rows_of(config) if row["layer"] == "last"]
    matrix = np.array([row["embedding"] for row in rows], dtype=np.float64)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    distances = 1 - matrix @ matrix.T + 10 * np.eye(len(rows))
    names = [row["clip_id"] for row in rows]
    assert len(found) == 3 * NUM_CLIPS
    for name in names:
        own = [distance for clip_id, _, distance in found if clip_id == name]
        assert own == pytest.approx(sorted(distances[names.index(name)])[:3], abs=1e-5)


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
    assert json.loads((run / "metrics.json").read_text()) == metrics | {"warnings": []}
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
def test_settings_a_b_a_in_one_directory_end_with_the_rows_of_a(tmp_path, audio, ray_session):
    first = make_config(tmp_path, audio)
    second = replace(first, audio=AudioConfig(crop_s=0.5))
    assert accounted(extract_embeddings.main(first)) == (NUM_CLIPS, 0, 0)
    before = {row["clip_id"]: row["embedding"] for row in rows_of(first)}
    assert accounted(extract_embeddings.main(second)) == (NUM_CLIPS, 0, 0)
    assert {row["clip_id"]: row["embedding"] for row in rows_of(first)} != before
    again = extract_embeddings.main(first)
    assert accounted(again) == (NUM_CLIPS, 0, 0) and again["rows"]["stale"] == 0
    after = {row["clip_id"]: row["embedding"] for row in rows_of(first)}
    assert after.keys() == before.keys()
    for clip_id, vector in after.items():
        assert np.allclose(vector, before[clip_id], atol=1e-5)


@pytest.mark.slow
def test_another_run_into_the_same_table_computes_nothing(finished):
    config, _, _ = finished
    before = rows_of(config)
    table = f"duckdb://{config.run}/embeddings.db?table=embeddings"
    other = extract_embeddings.main(replace(config, run=f"{config.run}2", table=table))
    # Knows nothing of the files but what it reads.
    assert accounted(other) == (0, NUM_CLIPS, len(BROKEN)) and other["audio_hours"] == 0
    assert rows_of(config) == before


def test_plan_writes_nothing_but_the_clips(tmp_path, audio, ray_session):
    config = make_config(tmp_path, audio, plan=True, encoder=VectorConfig(layers=(0, 1)))
    planned = extract_embeddings.main(config)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [Path(planned["csv"])]
    assert planned["clips"]["used"] == NUM_CLIPS
    length_s = sum(soundfile.info(path).duration for path in audio.rglob("*.wav"))
    sizes = [path.stat().st_size for path in audio.rglob("*.wav")]
    assert (planned["num_clips"], planned["num_bytes"]) == (NUM_CLIPS, sum(sizes))
    assert planned["num_rows"] == 2 * NUM_CLIPS and planned["seconds"] > 0
    assert 3600 * planned["audio_hours"] == pytest.approx(length_s, rel=0.02)


@pytest.mark.slow
def test_what_changes_is_done_anew_and_nothing_else(tmp_path, audio, ray_session):
    folder = shutil.copytree(audio, tmp_path / "audio")
    config = make_config(tmp_path, folder, labels=True)
    assert accounted(extract_embeddings.main(config)) == (NUM_CLIPS, 0, 0)
    before = rows_of(config)
    assert {row["label"] for row in before} > {"angry", "calm"} and len(
        {row["speaker"] for row in before}
    ) > 5

    paths = sorted(folder.rglob("*.wav"))
    waveform, rate = soundfile.read(paths[3])
    soundfile.write(paths[3], waveform[::-1], rate)
    paths[5].write_bytes(b"now broken")
    with pytest.raises(UserError, match=r"1 of 24 clips were rejected"):
        extract_embeddings.main(config)
    config = replace(config, data=replace(config.data, max_reject_fraction=0.1))
    changed = extract_embeddings.main(config)
    assert accounted(changed) == (1, NUM_CLIPS - 2, 1) and changed["rows"]["replaced"] == 1
    after = rows_of(config)
    differ = [a["clip_id"] for a, b in zip(before, after, strict=True) if a != b]
    assert differ == [str(paths[3].relative_to(folder))]

    paths[5].write_bytes((audio / paths[5].relative_to(folder)).read_bytes())
    max_pooled = replace(config, encoder=VectorConfig(pooling="max"))
    assert accounted(extract_embeddings.main(max_pooled)) == (NUM_CLIPS, 0, 0)
    rows = rows_of(config)
    assert [row for row in rows if row["pooling"] == "mean"] == after
    assert Counter(row["pooling"] for row in rows) == {"mean": NUM_CLIPS, "max": NUM_CLIPS}
    with duckdb.connect(str(Path(config.run) / "embeddings.db"), read_only=True) as connection:
        (reason,) = connection.sql("SELECT reason FROM embeddings_rejects").fetchall()
    assert reason == ("",)  # its reject is withdrawn


@pytest.mark.slow
def test_batches_workers_and_tables_change_no_vector(tmp_path, audio, ray_session):
    (tmp_path / "clips.csv").write_text(
        "uri,room\n" + "".join(f"{path},north\n" for path in sorted(audio.rglob("*.wav")))
    )
    settings = dict(
        window_s=0.4, hop_s=0.3, labels=("room",), data=DataConfig(uri=str(tmp_path / "clips.csv"))
    )
    one = make_config(
        tmp_path, audio, **settings, resources=ExtractionResources(num_workers=1), encoder=VectorConfig(batch_s=0.1)
    )  # fmt: skip
    extract_embeddings.main(one)
    two = replace(
        one, run=f"{one.run}2", table=str(tmp_path / "table"), encoder=VectorConfig(batch_s=60), resources=ExtractionResources(num_workers=3, clips_per_part=3)
    )  # fmt: skip
    extract_embeddings.main(two)
    rows, others = rows_of(one), pa.concat_tables(map(pq.read_table, (tmp_path / "table").glob("*.parquet")))
    first, second = vectors_of(rows), vectors_of(others.to_pylist())
    assert first.keys() == second.keys() and len(first) > 2 * NUM_CLIPS
    assert max(np.abs(first[key] - second[key]).max() for key in first) < 1e-5
    assert {row["room"] for row in rows} == {"north"}
    assert all(row["end_s"] - row["start_s"] <= 0.4 + 1e-9 for row in rows)


@pytest.mark.slow
def test_bigquery(tmp_path, audio, ray_session, monkeypatch):
    with FakeGcs("bucket") as gcs, FakeBigQuery(gcs) as bigquery:
        bigquery.create_dataset("my-project", "speech")
        for name, value in {**gcs_environment(gcs), **bigquery_environment(bigquery)}.items():
            monkeypatch.setenv(name, value)
        config = make_config(tmp_path, audio, table="bq://my-project.speech.embeddings")
        assert extract_embeddings.main(replace(config, plan=True))["num_clips"] == NUM_CLIPS
        assert bigquery.tables() == [] or not any("embeddings" in str(name) for name in bigquery.tables())
        assert accounted(extract_embeddings.main(config)) == (NUM_CLIPS, 0, 0)
        assert accounted(extract_embeddings.main(config)) == (0, NUM_CLIPS, 0)


# -- mistakes


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(table="bq://nothing"), r"is not a BigQuery table: write bq://project.dataset.table"),
        (dict(table="duckdb:///tmp/x.db?table=a;b"), r"is not a DuckDB table"),
        (dict(encoder=VectorConfig(layers=9)), r"encoder.layer must be at most 2, the layers of tiny, got 9"),
        (
            dict(encoder=VectorConfig(layers=(0, 9))),
            r"encoder.layers must be at most 2, the layers of tiny, got 9",
        ),
        (dict(encoder=VectorConfig(name="/nowhere/model")), r"encoder.name '/nowhere/model': no such folder"),
        (
            dict(resources=ExtractionResources(precision="bf16")),
            r"resources.precision is bf16, but the cluster has no GPU",
        ),
        (dict(labels=("dim",)), r"is no CSV and has no columns, but 'dim' are asked for"),
        (dict(data=DataConfig(uri="/nowhere")), r"/nowhere: no such file or folder"),
        (dict(data=DataConfig(uri="s3://bucket/x")), r"s3://bucket/x"),
    ],
    ids=str,
)
def test_mistakes_are_one_sentence(tmp_path, audio, ray_session, change, message):
    with pytest.raises(UserError, match=message) as caught:
        extract_embeddings.main(make_config(tmp_path, audio, **change))
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["dim", "status"])
def test_columns_that_have_another_use_are_refused(tmp_path, audio, name):
    path = next(audio.rglob("*.wav"))
    (tmp_path / "clips.csv").write_text(f"uri,{name}\n{path},1\n")
    config = make_config(tmp_path, tmp_path / "clips.csv", labels=(name,))
    with pytest.raises(UserError, match="rename"):
        extract_embeddings.main(config)


def test_too_many_rejects_stop_the_run_before_the_table_is_touched(tmp_path, audio, ray_session):
    folder = shutil.copytree(audio, tmp_path / "audio")
    for path in sorted(folder.rglob("*.wav"))[:3]:
        path.write_bytes(b"")
    config = make_config(tmp_path, folder, resources=ONE_ENCODER)
    with pytest.raises(UserError, match=r"3 of 24 clips were rejected, .* empty \(3\)") as caught:
        extract_embeddings.main(config)
    assert "--data.max_reject_fraction" in str(caught.value)
    assert rows_of(config) == [] and len(pq.read_table(Path(config.run) / "rejects.parquet")) == 3


# -- killed, and far away


def run_job(tmp_path: Path, config: ExtractConfig, **environment: str) -> subprocess.Popen:
    path = tmp_path / "config.yaml"
    path.write_text(command_line.dump(config))
    command = [sys.executable, str(ROOT / "jobs" / "extract_embeddings.py"), "--config", str(path)]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )  # fmt: skip


@pytest.mark.slow
def test_killed_and_run_again_computes_only_what_is_missing(tmp_path, corpus):
    config = make_config(tmp_path, corpus, resources=ExtractionResources(num_workers=1, clips_per_part=4))
    config = replace(config, encoder=VectorConfig(batch_s=0.01), audio=AudioConfig(trim_db=40))
    process = run_job(tmp_path, config)
    done = Path(config.run) / "done"
    deadline = time.monotonic() + 200
    while not (done.exists() and any(done.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)
    num_before = sum(len(pq.read_table(path)) for path in done.glob("*.parquet"))
    assert 0 < num_before < 192, "killed too late or too early"
    process = run_job(tmp_path, config)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    metrics = json.loads((Path(config.run) / "metrics.json").read_text())
    assert accounted(metrics) == (192, 0, 0) and metrics["num_made"] == 192 - num_before
    assert "192 clips: 192 written, 0 already there, 0 rejected" in output
    assert len(rows_of(config)) == 192


def test_audio_parts_table_and_run_in_a_bucket(tmp_path, audio, finished, ray_bucket):
    config = make_config(
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
    found, expected = vectors_of(rows), vectors_of(local)
    assert found.keys() == expected.keys()
    assert max(np.abs(found[key] - expected[key]).max() for key in found) < 1e-5
    assert {r["clip_id"]: r["checksum"] for r in rows} == {r["clip_id"]: r["checksum"] for r in local}
    assert storage.is_remote(rows[0]["uri"])


@pytest.mark.slow
def test_one_cpu_is_enough(tmp_path, audio):
    code = (
        "import sys, ray; ray.init(num_cpus=1, include_dashboard=False);"
        "from w2v2.config import command_line as cli; from w2v2.config.extract_embeddings import ExtractConfig; from w2v2.jobs import extract_embeddings as e;"
        "print(e.main(cli.parse(ExtractConfig, sys.argv[1:]))['written'])"
    )
    flags = ["--data.uri", str(audio), "--run", str(tmp_path / "run"), "--resources.clips_per_part", "3"]
    result = subprocess.run(
        [sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.stdout.strip().endswith(str(NUM_CLIPS)), result.stderr[-2000:]
