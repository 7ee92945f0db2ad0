"""A bucket that stops answering at any moment: the job ends with a sentence, and the same command resumes once it is back."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cloud.faults import Fault
from tests.cloud.gcs import FakeGcs, without_pauses
from w2v2.config.data import CacheConfig, DataConfig
from w2v2.config.finetune import FinetuneConfig, PredictConfig
from w2v2.config.model import EncoderConfig, TrainingConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.jobs import finetune, predict, tune_folds
from w2v2.storage.files import UnreachableError

pytestmark = pytest.mark.slow

NUM_DRAWS = 4


class Outage:
    """Counts the requests to a bucket; from one of them on none is answered, until `end`."""

    def __init__(self, server: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.begins_at = 0, 0
        self._take, self._lock = server.faults.take, threading.Lock()
        monkeypatch.setattr(server.faults, "take", self._counted)

    def _counted(self, method: str, target: str, body: bytes) -> tuple[float, Fault | None]:
        with self._lock:
            self.count += 1
            if 0 < self.begins_at <= self.count:
                return 0.0, Fault(method, "", "status", 503, 1, "backendError", 0.0)
        return self._take(method, target, body)

    def end(self) -> None:
        self.begins_at = 0


def table_of(bucket: FakeGcs, run: str, name: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(bucket.get("speech", f"{run}/{name}"))).sort_by("clip_id")


def probabilities_of(bucket: FakeGcs, run: str) -> np.ndarray:
    table = table_of(bucket, run, "predictions.parquet")
    return np.array([table[name] for name in table.column_names if name.startswith("prob_")])


def csv_of(bucket: FakeGcs, run: str) -> np.ndarray:
    lines = sorted(bucket.get("speech", f"{run}/predictions.csv").decode().splitlines()[1:])
    return np.array([[float(cell) for cell in line.split(",")[-2:]] for line in lines])


Job = tuple[Callable[[Any], Any], Any, Callable[[FakeGcs, str], np.ndarray]]


def job_of(name: str, run: str, audio: Path, model: str) -> Job:
    common: dict[str, Any] = {"run": f"gs://speech/{run}", "data": DataConfig(uri=str(audio)), "local": True}
    cache, training = CacheConfig(uri=f"gs://speech/{run}-cache"), TrainingConfig(num_epochs=2)
    match name:
        case "finetune":
            encoder = EncoderConfig(train="last", num_last_layers=1)
            config: Any = FinetuneConfig(encoder=encoder, training=training, cache=cache, **common)
            return finetune.main, config, probabilities_of
        case "tune_folds":
            search = SearchConfig(num_trials=3, max_concurrent_trials=1)
            config = TuneFoldsConfig(
                encoder=EncoderConfig(train="head"), search=search, training=training, cache=cache, **common
            )
            return tune_folds.main, config, probabilities_of
        case _:
            return predict.main, PredictConfig(model=model, **common), csv_of


@pytest.fixture
def audio(corpus: Path, tmp_path: Path) -> Path:
    """48 clips: two emotions of 24 actors."""
    for path in corpus.rglob("*.wav"):
        if path.stem.split("-")[2] in ("03", "05"):
            (tmp_path / "audio").mkdir(exist_ok=True)
            (tmp_path / "audio" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "audio"


@pytest.mark.parametrize("name", ["finetune", "tune_folds", "predict"])
def test_the_same_command_ends_with_the_same_numbers(
    name: str, audio: Path, bucket: FakeGcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # mirrors of caches
    without_pauses(monkeypatch)
    model = "gs://speech/model/model"
    if name == "predict":
        main, config, _ = job_of("finetune", "model", audio, "")
        main(replace(config, training=TrainingConfig(num_epochs=1)))
    outage = Outage(bucket, monkeypatch)
    main, config, numbers = job_of(name, "whole", audio, model)
    main(config)
    wanted = numbers(bucket, "whole")
    main, config, _ = job_of(name, "counted", audio, model)  # this machine knows the model already
    outage.count = 0
    main(config)
    num_requests = outage.count
    rng, num_ended = random.Random(name), 0
    for draw in range(NUM_DRAWS):
        run = f"run-{draw}"
        main, config, numbers = job_of(name, run, audio, model)
        outage.count, outage.begins_at = 0, rng.randrange(1, num_requests)
        story = f"{name}: no answer from request {outage.begins_at} of {num_requests}"
        try:
            main(config)  # to its end, where only its lease was left to be removed
        except UnreachableError as error:
            assert "\n" not in str(error), story
            num_ended += 1
        outage.end()
        main(config)
        assert np.allclose(numbers(bucket, run), wanted, rtol=0, atol=2e-5 if name == "predict" else 0), story
    assert num_ended
