"""jobs/pretrain.py: killed and run again, by one process and by two under Ray Train, with all its places in a bucket."""

import os
import signal
import time

import pytest
import safetensors.torch

from tests.jobs.test_finetune_in_buckets import begin, run, steps, stored, upload

pytestmark = pytest.mark.slow

FLAGS = ["--training.num_epochs", "3", "--optim.batch_s", "12", "--checkpoint.every_steps", "1"]
FLAGS += ["--data.exclude_speakers", '["03"]', "--optim.eps", "1e-3"]


@pytest.fixture
def places(tmp_path, bucket, corpus):
    """The clips of six actors here and in the bucket: flags for both."""
    folder = tmp_path / "data"
    for path in sorted(corpus.rglob("*.wav")):
        if path.parent.name in [f"Actor_0{number}" for number in range(1, 7)]:
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    assert len(list(folder.rglob("*.wav"))) == 48
    upload(bucket, folder, "data")
    return ["--data.uri", str(folder)], ["--data.uri", "gs://speech/data", "--cache.uri", "gs://speech/cache"]


def weights(bucket, name: str) -> dict:
    return safetensors.torch.load(bucket.get("speech", f"{name}/model/model.safetensors"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_in_a_bucket_it_ends_with_the_weights_of_an_uninterrupted_local_run(
    workers, places, tmp_path, bucket
):
    here, far = places
    flags = [*FLAGS, "--resources.num_workers", workers]
    process = begin("pretrain", *flags, *far, "--run", "gs://speech/runs/a", home=tmp_path / "home")
    deadline = time.monotonic() + 400
    while max(steps(bucket, "runs/a"), default=0) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reached = max(steps(bucket, "runs/a"))
    assert reached >= 3 and "runs/a/model/w2v2.json" not in bucket.names("speech"), "killed too late"
    output = run("pretrain", *flags, *far, "--run", "gs://speech/runs/a", home=tmp_path / "another machine")
    assert "(continued)" in output and max(steps(bucket, "runs/a")) > reached
    local = [*here, "--run", str(tmp_path / "run"), "--cache.uri", str(tmp_path / "cache")]
    run("pretrain", *flags, *local, home=tmp_path / "home")
    body = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    assert bucket.get("speech", "runs/a/model/model.safetensors") == body
    assert bucket.get("speech", "runs/a/curves.parquet") == (tmp_path / "run" / "curves.parquet").read_bytes()


def test_two_processes_pre_train_as_one(places, tmp_path, bucket):
    _, far = places
    for workers in ("1", "2"):
        place = ["--run", f"gs://speech/runs/{workers}", "--resources.num_workers", workers]
        run("pretrain", *FLAGS, *far, *place, home=tmp_path / workers)
    one, two = weights(bucket, "runs/1"), weights(bucket, "runs/2")
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert float((value - two[name]).abs().max()) < 1e-4, name
    alone, together = (stored(bucket, f"runs/{workers}/curves.parquet").to_pylist() for workers in "12")
    for a, b in zip(alone, together, strict=True):
        assert a.pop("split") == b.pop("split")
        assert a == pytest.approx(b, rel=1e-3)
