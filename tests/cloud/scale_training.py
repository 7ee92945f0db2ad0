"""The driver of a job with labels alone in its process, for `w2v2 benchmark scale`: audio and encoder are stubs.

`python -m tests.cloud.scale_training '{...}'` runs all steps of jobs/tune_folds.py, finetune.py, evaluate.py or predict.py
on the corpus of serve_corpus, which a table of labels names. Another process is the only worker: it writes real entries of
the feature cache, of random numbers, and trains, or writes real records of random predictions. The argument has job, run,
cache, folder, encoder and num_clips. Prints one line of JSON: what the driver took.
"""

import hashlib
import json
import multiprocessing
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from tests.cloud.scale_driver import AnonymousMemory, memory_bytes
from tests.cloud.serve_corpus import BUCKET, NUM_FEW, Names
from w2v2.audio.decoding import SAMPLE_RATE, Clip
from w2v2.audio.quality import Quality
from w2v2.config.data import CacheConfig, DataConfig, FoldsConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.model import EncoderConfig, OptimConfig, TrainingConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.inference.prediction_records import ClipPlace, ClipPrediction
from w2v2.search.trial import SearchPlan
from w2v2.storage import files as storage
from w2v2.training.finetune_plan import FinetunePlan
from w2v2.training.fold_result import Epoch, FoldScore, fold_score

CLIPS_PER_SPEAKER = 100
CLASSES = ("angry", "calm", "happy", "sad")
NUM_WORKERS = 16
"""Workers that the driver believes to have, which decides how many clips a task has."""
MIN_SAMPLES = 16
OPTIM = OptimConfig(learning_rate=1e-3, batch_size=512)
NUM_TRIALS, NUM_FOLDS, NUM_EPOCHS = 4, 3, 2


def write_labels(folder: str, place: Path, num_clips: int) -> str:
    """The uri of a table with the first clips below a folder of the bucket, their speakers and classes."""
    names, per_speaker = Names(folder, num_clips), min(CLIPS_PER_SPEAKER, num_clips // 8)
    path = place / f"{folder}.csv"
    with path.open("w") as file:
        file.write("uri,speaker,label\n")
        for number in range(num_clips):
            label = CLASSES[number * 2_654_435_761 % 2**32 >> 30]
            file.write(f"gs://{BUCKET}/{names[number]},speaker-{number // per_speaker:06d},{label}\n")
    return str(path)


# -- the worker's process


def stub_audio_and_encoder() -> None:
    """Replace reading, decoding and the encoder's forward by random numbers in this process."""
    from w2v2.features import preparation
    from w2v2.features.trunk_features import TrunkFeatures
    from w2v2.inference import prediction

    def decoded(requests: Sequence[Any], *_: object) -> tuple[dict[str, Clip], dict]:
        return {request.clip_id: made_clip(request.uri) for request in requests}, {}

    def compute(self: TrunkFeatures, waveforms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(len(waveforms))
        return {digest: rng.standard_normal(self.encoder.dim, np.float32) for digest in waveforms}

    mock.patch.object(preparation, "_decoded", decoded).start()
    mock.patch.object(TrunkFeatures, "compute", compute).start()
    mock.patch.object(prediction, "predict_clips", random_predictions).start()


def made_clip(uri: str) -> Clip:
    """A clip of a few samples and a quality that follow from its uri."""
    number = zlib.crc32(uri.encode())
    rng = np.random.default_rng(number)
    quality = Quality(
        level_db=-20.0 - number % 20,
        snr_db=20.0 + number % 30,
        bandwidth_hz=8_000.0 - 250 * (number % 8),
        silence_fraction=number % 10 / 20,
        clipping_fraction=0.0,
    )
    waveform = rng.standard_normal(MIN_SAMPLES + number % 64, np.float32)
    return Clip(waveform=waveform, sample_rate=SAMPLE_RATE, tolerated="", quality=quality)


def random_predictions(clips: Sequence[ClipPlace], *_: object, **settings: object) -> list[ClipPrediction]:
    """The predictions of a model that guesses."""
    guesses = np.random.default_rng(len(clips)).dirichlet(np.ones(len(CLASSES)), len(clips))
    predictions = []
    for clip, values in zip(clips, guesses, strict=True):
        made = made_clip(clip["uri"])
        duration_s = len(made.waveform) / SAMPLE_RATE
        predictions.append(
            ClipPrediction(
                clip_id=clip["clip_id"],
                spans=((0.0, duration_s),),
                values=values[None],
                duration_s=duration_s,
                audio_digest=hashlib.sha256(clip["uri"].encode()).hexdigest(),
                quality=made.quality,
            )
        )
    return predictions


def random_fold(fold: int, clip_ids: Sequence[str], targets: np.ndarray, num_train: int) -> FoldScore:
    """The score of a fold by a model that guesses."""
    logits = np.random.default_rng(fold).standard_normal((len(targets), len(CLASSES)))
    point = Epoch(epoch=1, train_loss=1.4, train_uar=0.25, learning_rate=1e-3)
    return fold_score(
        logits,
        fold=fold,
        clip_ids=clip_ids,
        targets=targets,
        num_train=num_train,
        seconds=1.0,
        curve=[point],
        num_trained_parameters=1,
    )


# -- the driver's process


@dataclass(frozen=True)
class PoolTask:
    """A function that runs in the worker's process."""

    pool: ProcessPoolExecutor
    function: Callable[..., object]
    num_sent: Counter[str]
    """Of each function, the items of the first arguments of its calls."""

    def remote(self, *args: Any) -> Future[Any]:
        """The call's future result."""
        if isinstance(args[0], Sequence):
            self.num_sent[self.function.__name__] += len(args[0])
        return self.pool.submit(self.function, *args)


@dataclass(frozen=True)
class OneProcess:
    """`workers.Workers` with one process behind it, which the driver takes for NUM_WORKERS workers."""

    pool: ProcessPoolExecutor
    num_sent: Counter[str] = field(default_factory=Counter)

    def gpus(self, wanted: float) -> float:
        return 0.0

    def slots(self, *, cpus: float, gpus: float, now: bool = False) -> int:
        return 1 if now else NUM_WORKERS

    def check_places(self, **places: str) -> None:
        pass

    def task(self, function: Callable[..., object], *, cpus: float, gpus: float) -> PoolTask:
        return PoolTask(self.pool, function, self.num_sent)

    def get(self, reference: Future[Any]) -> Any:
        return reference.result()

    def shared(self, value: Any) -> Any:
        return value

    def map_tasks(
        self,
        submit: Callable[[Any], Future[Any]],
        items: Sequence[Any],
        *,
        num_at_once: int,
        on_done: Callable[[int, Any], None],
    ) -> None:
        waiting: deque[tuple[int, Future[Any]]] = deque()
        for index, item in enumerate(items):
            waiting.append((index, submit(item)))
            if len(waiting) >= num_at_once:
                first, future = waiting.popleft()
                on_done(first, future.result())
        for last, future in waiting:
            on_done(last, future.result())


def tune_folds(wanted: dict[str, Any], labels: str, run: str, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """The metrics of a search: of heads, which the driver trains, or with scores that the worker draws."""
    from w2v2.jobs import tune_folds

    layers = wanted["job"] == "tune_layers"
    encoder = EncoderConfig(name=wanted["encoder"], train="last" if layers else "head")
    config = TuneFoldsConfig(
        run=run,
        data=DataConfig(uri=labels),
        folds=FoldsConfig(kind="grouped", num_folds=NUM_FOLDS),
        encoder=encoder,
        optim=OPTIM,
        training=TrainingConfig(num_epochs=NUM_EPOCHS),
        search=SearchConfig(num_trials=NUM_TRIALS, pruning="none"),
        cache=CacheConfig(uri=wanted["cache"]),
        local=layers,
    )

    def score(settings: TuneFoldsConfig, plan: SearchPlan, fold: int) -> FoldScore:
        train, held_out = plan.rows_of(fold)
        clips = plan.clips.take(held_out)
        numbers = {name: index for index, name in enumerate(plan.classes)}
        targets = np.array([numbers[label] for label in clips["label"].to_pylist()])
        drawn = pool.submit(random_fold, fold, clips["clip_id"].to_pylist(), targets, len(train))
        return drawn.result()

    with (
        mock.patch("w2v2.cluster.features.start_workers", lambda **_: OneProcess(pool)),
        mock.patch("w2v2.search.one_by_one.score_here", score),
    ):
        metrics = tune_folds.main(config)
    return {"num_clips": metrics["data"]["num_clips"], "num_made": metrics["trunk"]["clip_forwards"]}


def finetune(wanted: dict[str, Any], labels: str, run: str, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """The metrics of a fine-tuning, whose model the worker trains."""
    from w2v2.jobs import finetune
    from w2v2.training import finetuning

    config = FinetuneConfig(
        run=run,
        data=DataConfig(uri=labels),
        encoder=EncoderConfig(name=wanted["encoder"], train="head"),
        optim=OPTIM,
        training=TrainingConfig(num_epochs=NUM_EPOCHS),
        cache=CacheConfig(uri=wanted["cache"]),
    )

    def finetune_on(workers: OneProcess, plan: FinetunePlan, *, gpus: float) -> Any:
        return pool.submit(finetuning.finetune, plan).result()

    with (
        mock.patch("w2v2.jobs.finetune.start_workers", lambda **_: OneProcess(pool)),
        mock.patch("w2v2.cluster.finetune.finetune_on", finetune_on),
    ):
        metrics = finetune.main(config)
    return {"num_clips": sum(metrics["splits"].values()), "num_made": metrics["trunk"]["clip_forwards"]}


def model_of(wanted: dict[str, Any], pool: ProcessPoolExecutor) -> str:
    """A model of the same classes, trained on a few clips where it is not there yet."""
    run = f"{wanted['run']}-model"
    if not storage.exists(f"{run}/model"):
        finetune(wanted, str(Path(wanted["folder"]) / "few.csv"), run, pool)
    return f"{run}/model"


def evaluate(wanted: dict[str, Any], labels: str, run: str, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """How many clips were scored, and how many of them the worker predicted."""
    from w2v2.jobs import evaluate

    config = EvaluateConfig(run=run, model=model_of(wanted, pool), data=DataConfig(uri=labels))
    return predicted(evaluate, config, pool)


def predict(wanted: dict[str, Any], labels: str, run: str, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """How many clips were written, and how many of them the worker predicted."""
    from w2v2.jobs import predict

    config = PredictConfig(run=run, model=model_of(wanted, pool), data=DataConfig(uri=labels))
    return predicted(predict, config, pool)


def predicted(
    job: ModuleType, config: EvaluateConfig | PredictConfig, pool: ProcessPoolExecutor
) -> dict[str, Any]:
    """How many clips the job ended with, and how many of them the worker predicted."""
    workers = OneProcess(pool)
    with mock.patch.object(job, "start_workers", lambda **_: workers):
        metrics = job.main(config)
    return {"num_clips": metrics["num_clips"], "num_made": workers.num_sent["_predict_chunk"]}


JOBS = {
    "tune_folds": tune_folds,
    "tune_layers": tune_folds,
    "finetune": finetune,
    "evaluate": evaluate,
    "predict": predict,
}


def main(argument: str) -> None:
    """Run the job on a few clips, so that all is imported, and then on all of them, which is measured."""
    wanted = json.loads(argument)
    job, place = JOBS[wanted["job"]], Path(wanted["folder"])
    few = write_labels("few", place, NUM_FEW)
    labels = write_labels("audio", place, wanted["num_clips"])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=stub_audio_and_encoder) as pool:
        job(wanted, few, f"{wanted['run']}-few", pool)
        cpu_s, seconds = time.process_time(), time.perf_counter()
        before, of_worker = memory_bytes("VmHWM"), pool.submit(memory_bytes, "VmHWM").result()
        with AnonymousMemory() as anonymous:
            numbers = job(wanted, labels, wanted["run"], pool)
        cpu_s, seconds = time.process_time() - cpu_s, time.perf_counter() - seconds
        took = {"cpu_s": cpu_s, "seconds": seconds, "bytes_before": before}
        took |= {"peak_bytes": memory_bytes("VmHWM"), "anonymous_bytes": anonymous.peak_bytes}
        took["worker_grown_bytes"] = pool.submit(memory_bytes, "VmHWM").result() - of_worker
    print(json.dumps(took | numbers))


if __name__ == "__main__":
    main(sys.argv[1])
