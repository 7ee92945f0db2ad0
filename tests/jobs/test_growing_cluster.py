"""Jobs on Ray's fake autoscaling cluster: it begins as a head alone, grows as a job asks, and loses a machine on the way."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.util import get_node_ip_address
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from tests import ROOT
from tests.made.ray_head import end_session, free_ports

pytestmark = pytest.mark.slow

NUM_MACHINES = 4
NUM_RECORDINGS = 120
NUM_EPOCHS = 200
"""Of the training that outlasts the start of a second machine: 60 epochs take a fast processor half a minute."""


@dataclass(frozen=True, kw_only=True)
class Growing:
    """A head without CPUs that may start four machines of one CPU."""

    address: str
    home: Path

    def begin(self, job: str, *flags: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *flags],
            env=os.environ | {"HOME": str(self.home), "RAY_ADDRESS": self.address, "W2V2_SHARED_DISK": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def machines(self) -> list[int]:
        """The processes of the machines that are up, without the head's."""
        alive = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if (
                words[0].endswith("/raylet")
                and any(self.address in word for word in words)
                and "--head" not in words
            ):
                alive.append(int(entry.parent.name))
        return sorted(alive)


def config(address: str) -> dict[str, object]:
    """Ray's own fake provider starts a machine as processes of this one."""
    machine = {"resources": {"CPU": 1, "object_store_memory": 150_000_000}, "node_config": {}}
    return {
        "cluster_name": "growing",
        "max_workers": NUM_MACHINES,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": 5.0,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "machine": machine | {"min_workers": 0, "max_workers": NUM_MACHINES},
        },
        "head_node_type": "ray.head.default",
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "initialization_commands", "setup_commands")},
        **{f"{kind}_setup_commands": [] for kind in ("head", "worker")},
        **{f"{kind}_start_ray_commands": [] for kind in ("head", "worker")},
        "file_mounts_sync_continuously": False,
    }


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Growing]:
    folder = Path(tempfile.mkdtemp(prefix="w2v2-"))  # Ray's sockets need short paths
    port, client, agent = free_ports(3)
    address = f"{get_node_ip_address()}:{port}"
    types = tmp_path / "ray_bootstrap_config.yaml"  # where `ray up` puts it, in the home of the head
    types.write_text(yaml.safe_dump(config(address)))
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    fake |= {
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    }
    start = [
        "ray",
        "start",
        "--head",
        "--block",
        "--num-cpus=0",
        "--node-ip-address=127.0.0.1",
        f"--port={port}",
    ]
    start += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    start += [f"--temp-dir={folder}", "--include-dashboard=false", f"--autoscaling-config={types}"]
    log = tmp_path / "head.log"
    with log.open("w") as output:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *start[1:], "--object-store-memory=150000000"],
            env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | fake,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "Ray runtime started" in log.read_text(), head, log)
        yield Growing(address=address, home=tmp_path)
    finally:
        end_session(head)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(holds, process: subprocess.Popen, log: Path | None = None, *, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(log.read_text() if log else process.communicate(timeout=60)[0])
        time.sleep(0.2)


def end(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


def alone(job: str, *flags: str) -> None:
    """The same job in a process of its own, without Ray."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *flags, "--local", "true"],
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def vectors(run: Path) -> list[tuple]:
    with duckdb.connect(str(run / "embeddings.db"), read_only=True) as database:
        return database.sql("select clip_id, embedding from embeddings order by clip_id").fetchall()


@pytest.fixture
def long_work(tmp_path: Path) -> tuple[Path, Path]:
    """Recordings, and an encoder that takes about half a second for each of them."""
    recordings, encoder = tmp_path / "recordings", tmp_path / "encoder"
    recordings.mkdir()
    noise = np.random.default_rng(0)
    for number in range(NUM_RECORDINGS):
        soundfile.write(recordings / f"{number:03}.wav", noise.normal(0, 0.1, 30 * 16_000), 16_000)
    torch.manual_seed(0)
    size = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    convolutions = {"conv_dim": (128,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    Wav2Vec2Model(Wav2Vec2Config(**size, **convolutions)).save_pretrained(encoder)
    Wav2Vec2FeatureExtractor().save_pretrained(encoder)
    return recordings, encoder


def test_an_extraction_grows_with_the_machines_and_survives_the_loss_of_one(
    growing: Growing, long_work, tmp_path
):
    recordings, encoder = long_work
    flags = ["--data.uri", str(recordings), "--data.layout", "files", "--encoder.name", str(encoder)]
    flags += ["--resources.clips_per_part", "4"]
    asked = ["--resources.num_workers", str(NUM_MACHINES)]
    process = growing.begin("extract_embeddings", *flags, *asked, "--run", str(tmp_path / "far"))
    wait_until(lambda: len(growing.machines()) >= 3, process)
    wait_until(lambda: len(list((tmp_path / "far" / "parts").glob("*"))) >= 3, process)
    os.kill(growing.machines()[0], signal.SIGKILL)
    output = end(process)
    assert f"{NUM_MACHINES} encoders start" in output
    alone("extract_embeddings", *flags, "--run", str(tmp_path / "near"))
    far, near = vectors(tmp_path / "far"), vectors(tmp_path / "near")
    assert [name for name, _ in far] == [name for name, _ in near] and len(far) == NUM_RECORDINGS
    for (_, one), (_, other) in zip(far, near, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_search_grows_with_the_machines_and_survives_the_loss_of_one(growing: Growing, corpus, tmp_path):
    flags = ["--data.uri", str(corpus), "--search.num_trials", "4", "--search.num_startup_trials", "4"]
    flags += ["--search.pruning", "none", "--encoder.train", "all", "--training.num_epochs", "6"]
    cache = ["--cache.uri", str(tmp_path / "cache")]
    process = growing.begin("tune_folds", *flags, *cache, "--run", str(tmp_path / "far"))
    ledger = tmp_path / "far" / "ledger"
    wait_until(lambda: len(growing.machines()) >= 2 and len(list(ledger.rglob("*.*"))) >= 4, process)
    os.kill(growing.machines()[0], signal.SIGKILL)
    assert "4 of 4 trials ended" in end(process)
    alone("tune_folds", *flags, *cache, "--run", str(tmp_path / "near"))
    far, near = (pq.read_table(tmp_path / run / "predictions.parquet") for run in ("far", "near"))
    assert far["predicted"] == near["predicted"] and far["clip_id"] == near["clip_id"]


def test_a_fine_tuning_waits_for_a_machine(growing: Growing, corpus, tmp_path):
    flags = [
        "--data.uri",
        str(corpus),
        "--training.num_epochs",
        "2",
        "--head.dropout",
        "0",
        "--cache.uri",
        str(tmp_path / "cache"),
    ]
    assert growing.machines() == []
    end(growing.begin("finetune", *flags, "--resources.num_workers", "2", "--run", str(tmp_path / "far")))
    alone("finetune", *flags, "--run", str(tmp_path / "near"))
    far, near = (
        pq.read_table(tmp_path / run / "curves.parquet")["train_loss"].to_pylist() for run in ("far", "near")
    )
    assert far == pytest.approx(near, rel=1e-4)


def test_a_fine_tuning_shrinks_and_grows_with_the_machines(growing: Growing, corpus, tmp_path):
    flags = [
        "--data.uri",
        str(corpus),
        "--encoder.train",
        "all",
        "--training.num_epochs",
        str(NUM_EPOCHS),
        "--head.dropout",
        "0",
    ]
    flags += ["--optim.learning_rate", "1e-5", "--cache.uri", str(tmp_path / "cache")]
    elastic = ["--resources.num_workers", "3", "--resources.min_workers", "1", "--run", str(tmp_path / "far")]
    process = growing.begin("finetune", *flags, *elastic)
    checkpoints = tmp_path / "far" / "checkpoints"
    wait_until(lambda: len(growing.machines()) >= 2 and sizes(checkpoints) & {2, 3}, process)
    os.kill(growing.machines()[0], signal.SIGKILL)
    end(process)
    alone("finetune", *flags, "--run", str(tmp_path / "near"))
    far, near = (
        pq.read_table(tmp_path / run / "curves.parquet")["train_loss"].to_pylist() for run in ("far", "near")
    )
    assert len(far) == NUM_EPOCHS and far == pytest.approx(near, rel=1e-3)


def sizes(checkpoints: Path) -> set[int]:
    """The numbers of processes of the checkpoints that are there."""
    numbers = set()
    for path in checkpoints.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # older ones are deleted
            numbers.add(len(json.loads(path.read_text())["state"]["positions"]))
    return numbers
