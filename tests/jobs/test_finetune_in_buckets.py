"""jobs/finetune.py, predict.py: killed and run again, with data, cache and run in a bucket."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.made.arpa import write_arpa
from tests.made.corpora import clinic_corpus, deam_corpus, labelled_csv, sentences_csv
from w2v2.audio.synthesis import WORDS

pytestmark = pytest.mark.slow


def begin(job: str, *flags: str, home: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *flags]
    return subprocess.Popen(
        command, env=os.environ | {"HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )  # fmt: skip


def run(job: str, *flags: str, home: Path) -> str:
    process = begin(job, *flags, home=home)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def upload(bucket, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put("speech", f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


def steps(bucket, run: str) -> list[int]:
    """Steps of the checkpoints in a run in the bucket."""
    names = bucket.names("speech")
    matches = (re.fullmatch(rf"{run}/checkpoints/step-(\d+)\.json", name) for name in names)
    return [int(match[1]) for match in matches if match]


def stored(bucket, name: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(bucket.get("speech", name)))


FLAGS = {
    "csv": ["--encoder.train", "all", "--data.uri", "gs://speech/data/clips.csv"],
    "clinic": ["--encoder.train", "last", "--task.kind", "multi_label", "--data.layout", "clinic"],
    "deam": ["--encoder.train", "head", "--task.kind", "regression", "--data.layout", "deam"],
    "transcript": ["--task.kind", "transcript", "--data.uri", "gs://speech/data/clips.csv"],
}
MAKE = {"csv": labelled_csv, "clinic": clinic_corpus, "deam": deam_corpus, "transcript": sentences_csv}


@pytest.mark.parametrize("shape", FLAGS)
def test_killed_in_a_bucket_it_ends_with_the_weights_of_an_uninterrupted_local_run(shape, tmp_path, bucket):
    made = MAKE[shape](tmp_path / "data")
    upload(bucket, tmp_path / "data", "data")
    flags = ["--data.uri", "gs://speech/data", *FLAGS[shape], "--training.num_epochs", "12"]
    flags += [
        "--data.max_reject_fraction",
        "0.2",
        "--checkpoint.every_steps",
        "1",
        "--training.patience_epochs",
        "12",
    ]
    far = [*flags, "--run", "gs://speech/runs/a", "--cache.uri", "gs://speech/cache"]
    process = begin("finetune", *far, home=tmp_path / "home")
    deadline = time.monotonic() + 240
    while max(steps(bucket, "runs/a"), default=0) < 4 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reached = max(steps(bucket, "runs/a"))
    assert reached >= 4 and "runs/a/model/w2v2.json" not in bucket.names("speech"), "killed too late"
    output = run("finetune", *far, home=tmp_path / "another machine")
    assert "(continued)" in output and max(steps(bucket, "runs/a")) > reached
    here = ["--run", str(tmp_path / "run"), "--cache.uri", str(tmp_path / "cache"), "--data.uri", str(made)]
    run("finetune", *flags, *here, home=tmp_path / "home")
    metrics = json.loads(bucket.get("speech", "runs/a/metrics.json"))
    whole = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["model"]["digest"] == whole["model"]["digest"]
    assert metrics["pooled"] == whole["pooled"]
    curves = pq.read_table(tmp_path / "run" / "curves.parquet")
    assert stored(bucket, "runs/a/curves.parquet") == curves and len(curves) == 12


def test_two_workers_train_from_a_bucket(tmp_path, bucket):
    labelled_csv(tmp_path / "data")
    upload(bucket, tmp_path / "data", "data")
    flags = [
        *FLAGS["csv"],
        "--training.num_epochs",
        "2",
        "--head.dropout",
        "0",
        "--cache.uri",
        "gs://speech/cache",
    ]
    for workers in ("1", "2"):
        place = ["--run", f"gs://speech/runs/{workers}", "--resources.num_workers", workers]
        run("finetune", *flags, *place, home=tmp_path / workers)
    losses = [stored(bucket, f"runs/{workers}/curves.parquet")["train_loss"].to_pylist() for workers in "12"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    run("predict", "--model", "gs://speech/runs/2/model", "--data.uri", "gs://speech/data/clips.csv",
        "--run", "gs://speech/runs/said", home=tmp_path / "home")  # fmt: skip
    lines = bucket.get("speech", "runs/said/predictions.csv").decode().splitlines()
    assert len(lines) == 1 + len(stored(bucket, "runs/2/manifest.parquet"))


def test_transcripts_by_two_workers_with_a_language_model_all_in_a_bucket(tmp_path, bucket):
    pytest.importorskip("flashlight", reason="the extra asr is not installed")
    sentences_csv(tmp_path / "data")
    ngrams = {("<unk>",): (-9.0, 0.0), ("<s>",): (-99.0, 0.0), ("</s>",): (-0.6, 0.0)}
    ngrams |= {(word,): (-1.2, 0.0) for word in WORDS} | {("<s>", word): (-1.1, 0.0) for word in WORDS}
    write_arpa(tmp_path / "data" / "lm.arpa", ngrams)
    upload(bucket, tmp_path / "data", "data")
    flags = [*FLAGS["transcript"], "--training.num_epochs", "2", "--head.dropout", "0"]
    flags += ["--cache.uri", "gs://speech/cache", "--optim.learning_rate", "4e-3"]
    flags += ["--decode.kind", "beam", "--decode.lm", "gs://speech/data/lm.arpa", "--decode.lexicon", "lm"]
    for workers in ("1", "2"):
        place = ["--run", f"gs://speech/runs/{workers}", "--resources.num_workers", workers]
        run("finetune", *flags, *place, home=tmp_path / workers)
    losses = [stored(bucket, f"runs/{workers}/curves.parquet")["train_loss"].to_pylist() for workers in "12"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, two = (json.loads(bucket.get("speech", f"runs/{workers}/metrics.json")) for workers in "12")
    assert [row["lm_weight"] for row in two["decoding"]["tried"]] == [
        row["lm_weight"] for row in one["decoding"]["tried"]
    ]
    assert (
        bucket.get("speech", "runs/2/model/language_model.arpa")
        == (tmp_path / "data" / "lm.arpa").read_bytes()
    )
    run("predict", "--model", "gs://speech/runs/2/model", "--data.uri", "gs://speech/data/clips.csv",
        "--run", "gs://speech/runs/said", "--words", "true", "--decode.kind", "beam",
        "--table", "gs://speech/table", home=tmp_path / "home")  # fmt: skip
    names = [
        name for name in bucket.names("speech") if name.startswith("table/") and name.endswith(".parquet")
    ]
    rows = {row["clip_id"]: row for name in names for row in stored(bucket, name).to_pylist()}
    assert len(rows) == len(stored(bucket, "runs/2/manifest.parquet"))
    for row in stored(bucket, "runs/2/predictions.parquet").to_pylist():
        assert rows[row["clip_id"]]["text"] == row["predicted"]
        assert len(json.loads(rows[row["clip_id"]]["words"])) == len(row["predicted"].split())
