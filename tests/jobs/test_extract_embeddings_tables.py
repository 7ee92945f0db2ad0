"""Extractions into one table again: with other settings, changed files, other tables, killed, on one CPU."""

import json
import os
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
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tests import ROOT
from tests.cloud.bigquery import FakeBigQuery, bigquery_environment
from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.made.extraction import NUM_CLIPS, accounted, extract_config, rows_of, small_corpus, vectors_of
from w2v2.config import command_line
from w2v2.config.data import AudioConfig, DataConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.resources import ExtractionResources
from w2v2.errors import UserError
from w2v2.jobs import extract_embeddings


@pytest.fixture(scope="module")
def audio(corpus, tmp_path_factory) -> Path:
    return small_corpus(corpus, tmp_path_factory.mktemp("audio"))


@pytest.mark.slow
def test_settings_a_b_a_in_one_directory_end_with_the_rows_of_a(tmp_path, audio, ray_session):
    first = extract_config(tmp_path, audio)
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
def test_what_changes_is_done_anew_and_nothing_else(tmp_path, audio, ray_session):
    folder = shutil.copytree(audio, tmp_path / "audio")
    config = extract_config(tmp_path, folder, labels=True)
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
    one = extract_config(
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
        config = extract_config(tmp_path, audio, table="bq://my-project.speech.embeddings")
        assert extract_embeddings.main(replace(config, plan=True))["num_clips"] == NUM_CLIPS
        assert bigquery.tables() == [] or not any("embeddings" in str(name) for name in bigquery.tables())
        assert accounted(extract_embeddings.main(config)) == (NUM_CLIPS, 0, 0)
        assert accounted(extract_embeddings.main(config)) == (0, NUM_CLIPS, 0)


def test_plan_writes_nothing_but_the_clips(tmp_path, audio, ray_session):
    config = extract_config(tmp_path, audio, plan=True, encoder=VectorConfig(layers=(0, 1)))
    planned = extract_embeddings.main(config)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [Path(planned["csv"])]
    assert planned["clips"]["used"] == NUM_CLIPS
    length_s = sum(soundfile.info(path).duration for path in audio.rglob("*.wav"))
    sizes = [path.stat().st_size for path in audio.rglob("*.wav")]
    assert (planned["num_clips"], planned["num_bytes"]) == (NUM_CLIPS, sum(sizes))
    assert planned["num_rows"] == 2 * NUM_CLIPS and planned["seconds"] > 0
    assert 3600 * planned["audio_hours"] == pytest.approx(length_s, rel=0.02)


def run_job(tmp_path: Path, config: ExtractConfig, **environment: str) -> subprocess.Popen:
    path = tmp_path / "config.yaml"
    path.write_text(command_line.dump(config))
    command = [sys.executable, str(ROOT / "jobs" / "extract_embeddings.py"), "--config", str(path)]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )  # fmt: skip


def may_write(process: psutil.Process) -> bool:
    """Whether a process of Ray can be a worker: its agents outlive a killed job by up to a minute."""
    try:
        return "Agent" not in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.slow
def test_killed_and_run_again_computes_only_what_is_missing(tmp_path, corpus):
    config = extract_config(tmp_path, corpus, resources=ExtractionResources(num_workers=1, clips_per_part=4))
    config = replace(config, encoder=VectorConfig(batch_s=0.01), audio=AudioConfig(trim_db=40))
    process = run_job(tmp_path, config)
    done = Path(config.run) / "done"
    deadline = time.monotonic() + 200
    while not (done.exists() and any(done.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if may_write(child)]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(workers, timeout=60)
    num_before = sum(len(pq.read_table(path)) for path in done.glob("*.parquet"))
    assert 0 < num_before < 192, "killed too late or too early"
    process = run_job(tmp_path, config)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    metrics = json.loads((Path(config.run) / "metrics.json").read_text())
    assert accounted(metrics) == (192, 0, 0) and metrics["num_made"] == 192 - num_before
    assert "192 clips: 192 written, 0 already in the table, 0 rejected" in output
    assert len(rows_of(config)) == 192


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
