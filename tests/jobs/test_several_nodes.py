"""Jobs on a Ray cluster of several nodes, of which one is taken away."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.made.corpora import labelled_csv

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes(bucket) -> Iterator[tuple]:
    """A head without CPUs and two nodes with one each, all of which know the bucket."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 200_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    added = [cluster.add_node(num_cpus=1, object_store_memory=200_000_000) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, added
    cluster.shutdown()


def begin(cluster, job: str, *flags: str, home: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *flags]
    here = os.environ | {"HOME": str(home)}
    return subprocess.Popen(
        command,
        env=here | {"RAY_ADDRESS": cluster.address if cluster else "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def upload(bucket, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put("speech", f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


def stored(bucket, name: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(bucket.get("speech", name)))


def test_two_workers_on_two_nodes_train_as_one(nodes, bucket, tmp_path):
    cluster, _ = nodes
    labelled_csv(tmp_path / "data")
    upload(bucket, tmp_path / "data", "data")
    flags = ["--data.uri", "gs://speech/data/clips.csv", "--cache.uri", "gs://speech/cache", "--head.dropout", "0"]  # fmt: skip
    flags += ["--encoder.train", "all", "--training.num_epochs", "2"]
    local = ["--run", str(tmp_path / "run")]
    output = end(begin(cluster, "finetune", *flags, *local, home=tmp_path), code=2)
    assert f"on a cluster of several machines all places must be in gs://, got run={tmp_path}/run" in output
    losses = []
    for workers, where in ((2, cluster), (1, None)):
        run = f"gs://speech/runs/{workers}"
        end(
            begin(
                where,
                "finetune",
                *flags,
                "--resources.num_workers",
                str(workers),
                "--run",
                run,
                home=tmp_path,
            )
        )
        losses.append(stored(bucket, f"runs/{workers}/curves.parquet")["train_loss"].to_pylist())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_search_continues_when_a_node_is_taken_away(nodes, bucket, corpus, tmp_path):
    cluster, added = nodes
    upload(bucket, corpus, "ravdess")
    flags = [
        "--data.uri",
        "gs://speech/ravdess",
        "--cache.uri",
        "gs://speech/cache",
        "--search.num_trials",
        "3",
    ]
    flags += ["--search.num_startup_trials", "3", "--search.pruning", "none", "--encoder.train", "all"]
    process = begin(cluster, "tune_folds", *flags, "--run", "gs://speech/runs/far", home=tmp_path)
    deadline = time.monotonic() + 240
    while sum("runs/far/ledger/" in name for name in bucket.names("speech")) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    cluster.remove_node(added[0], allow_graceful=False)
    output = end(process)
    assert "3 of 3 trials ended" in output
    whole = ["--run", str(tmp_path / "run")]
    end(begin(None, "tune_folds", *flags, *whole, home=tmp_path))
    columns = ["clip_id", "fold", "target", "predicted", "prob_neutral", "prob_angry"]
    near = pq.read_table(tmp_path / "run" / "predictions.parquet").select(columns)
    assert stored(bucket, "runs/far/predictions.parquet").select(columns) == near
    far = json.loads(bucket.get("speech", "runs/far/metrics.json"))
    assert far["selection"]["num_complete"] == 3
