"""The whole extraction, bucket to BigQuery, killed at random times while servers lose answers and send 503s.

W2V2_CHAOS_JOBS sets the number of seeds; one takes minutes.
"""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import ROOT
from tests.cloud.bigquery import FakeBigQuery, bigquery_environment
from tests.made.extraction import extract_config, rows_of, small_corpus, vectors_of
from w2v2.config import command_line
from w2v2.config.data import DataConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.jobs import extract_embeddings

NUM_SEEDS = int(os.environ.get("W2V2_CHAOS_JOBS", "1"))
RATES = {"status": 0.03, "reset": 0.02, "lost_answer": 0.03}
MAX_RUNS = 25
pytestmark = pytest.mark.slow


def attempt(config: Path, *, killed_after_s: float | None) -> tuple[int, str]:
    """Exit code and output of the command, or -SIGKILL: the whole session at once, as when a machine is lost."""
    command = [sys.executable, str(ROOT / "jobs" / "extract_embeddings.py"), "--config", str(config)]
    process = subprocess.Popen(
        command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=killed_after_s or 300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return process.returncode, output


def stored(bigquery: FakeBigQuery) -> dict:
    if "embeddings" not in bigquery.tables():
        return {}
    return vectors_of(bigquery.sql('FROM "my-project"."speech"."embeddings"').to_pylist())


def same(vectors: dict, wanted: dict) -> bool:
    return vectors.keys() == wanted.keys() and all(
        np.abs(vectors[k] - wanted[k]).max() < 1e-5 for k in wanted
    )


def quiet_run(folder: Path, base: ExtractConfig, run: Path) -> dict:
    """The vectors that the same extraction of a local folder makes, undisturbed."""
    config = replace(base, run=str(run), table="", data=DataConfig(uri=str(folder)))
    extract_embeddings.main(config)
    return vectors_of(rows_of(config))


def upload(bucket, folder: Path) -> None:
    for path in folder.rglob("*.wav"):
        bucket.put("speech", f"audio/{path.relative_to(folder)}", path.read_bytes())


def live(file: Path, servers: tuple, rng: random.Random, allowed: list[dict]) -> int:
    """Number of kills until a run of the command ends; the table is looked at after each."""
    num_kills = 0
    for _ in range(MAX_RUNS):
        for server in servers:
            server.faults.randomly(rng.getrandbits(32), RATES)
        code, output = attempt(file, killed_after_s=rng.uniform(8, 45) if rng.random() < 0.8 else None)
        for server in servers:
            server.faults.clear()
        assert code in (0, 2, -signal.SIGKILL), output
        num_kills += code == -signal.SIGKILL
        now = stored(servers[1])
        assert any(same(now, table) for table in (allowed if code else allowed[1:])), output
        if code == 0:
            return num_kills
    raise AssertionError(f"did not end in {MAX_RUNS} runs: {output}")


@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_the_table_is_exact_through_kills_and_faults(
    seed, corpus, tmp_path, bucket, ray_session, monkeypatch
):
    rng = random.Random(seed)
    folder = small_corpus(corpus, tmp_path / "audio")
    paths = sorted(folder.rglob("*.wav"))
    held_back = paths[3].read_bytes()
    paths[3].unlink()
    base = extract_config(tmp_path, "gs://speech/audio", run="gs://speech/runs/a", window_s=0.4)
    base = replace(base, table="bq://my-project.speech.embeddings")
    file = tmp_path / "config.yaml"
    file.write_text(command_line.dump(base))
    num_kills, before = 0, {}
    with FakeBigQuery(bucket) as bigquery:
        bigquery.create_dataset("my-project", "speech")
        for name, value in bigquery_environment(bigquery).items():
            monkeypatch.setenv(name, value)
        for life in ("new", "changed"):
            if life == "changed":  # a clip more, and one that has become shorter
                paths[3].write_bytes(held_back)
                waveform, rate = soundfile.read(paths[0])
                soundfile.write(paths[0], waveform[: len(waveform) // 3], rate)
            upload(bucket, folder)
            after = quiet_run(folder, base, tmp_path / life)
            assert not same(before, after)
            num_kills += live(file, (bucket, bigquery), rng, [before, after])
            before = after
        num_faults = sum(bool(r.fault) for server in (bucket, bigquery) for r in server.requests)
        print(f"seed {seed}: {num_kills} kills, {num_faults} faults")
        assert num_faults
        # Killed between its MERGE and the end of its commit, a run leaves a staging table that nobody asks for again.
        staging = [name for name in bigquery.tables() if "staging" in name]
        assert len(staging) <= num_kills
        assert all("expirationTime" in bigquery.resource("my-project", "speech", name) for name in staging)
