"""`--local true`: every job in one process, without Ray, with the numbers that Ray's workers give."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from tests import ROOT
from w2v2.cluster.workers import ThisProcess
from w2v2.config.baseline import BaselineConfig, SvmConfig
from w2v2.config.command_line import parse
from w2v2.config.data import CacheConfig, DataConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.model import EncoderConfig, TrainingConfig
from w2v2.config.pretrain import PretrainConfig, PretrainDataConfig, PretrainTrainingConfig
from w2v2.config.resources import ExtractionResources, InferenceResources
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.data.recording_quality import QUALITY
from w2v2.errors import UserError
from w2v2.jobs import baseline, evaluate, extract_embeddings, finetune, predict, pretrain, tune_folds

ONE = ExtractionResources(num_workers=1)

WITHOUT_RAY = """
import importlib, sys
sys.modules["ray"] = None  # importing it is an error
for line in {commands!r}:
    name, *args = line.split()
    code = importlib.import_module("w2v2.jobs." + name).run([*args, "--local", "true"])
    if code:
        sys.exit(code)
"""


def run_without_ray(*commands: str) -> None:
    subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY.format(commands=commands)], cwd=ROOT, check=True, timeout=600
    )


def test_a_model_is_trained_and_used_where_there_is_no_ray(two_emotions: Path, tmp_path: Path) -> None:
    run_without_ray(
        f"finetune --data.uri {two_emotions} --run {tmp_path}/model --cache.uri {tmp_path}/cache --training.num_epochs 1",
        f"predict --data.uri {two_emotions} --run {tmp_path}/predicted --model {tmp_path}/model/model",
        f"extract_embeddings --data.uri {two_emotions} --run {tmp_path}/vectors",
    )
    assert len((tmp_path / "predicted" / "predictions.csv").read_text().splitlines()) == 48 + 1
    with duckdb.connect(str(tmp_path / "vectors" / "embeddings.db")) as database:
        assert database.sql("SELECT count(*) FROM embeddings").fetchall() == [(48,)]
    trained, embedded = (pq.read_table(tmp_path / name / "manifest.parquet") for name in ("model", "vectors"))
    for name in QUALITY:
        assert trained[name].null_count == 0 and trained.schema.field(name).type == "double"
        assert embedded.sort_by("clip_id")[name].to_pylist() == trained.sort_by("clip_id")[name].to_pylist()
    for name in ("model", "vectors"):
        assert "Recording quality" in (tmp_path / name / "report.html").read_text()


@pytest.mark.slow
def test_the_other_jobs_where_there_is_no_ray(two_emotions: Path, tmp_path: Path) -> None:
    common = f"--data.uri {two_emotions} --cache.uri {tmp_path}/cache"
    run_without_ray(
        f"tune_folds {common} --run {tmp_path}/search --search.num_trials 1 --training.num_epochs 1 --encoder.train last",
        f"tune_folds {common} --run {tmp_path}/heads --search.num_trials 1 --training.num_epochs 1 --encoder.train head",
        f"baseline {common} --run {tmp_path}/svm --svm.features [pitch]",
        f"pretrain {common} --run {tmp_path}/pretrained --training.num_epochs 1",
        f"finetune {common} --run {tmp_path}/model --training.num_epochs 1 --encoder.train last --head.joined [pitch]",
        f"evaluate --data.uri {two_emotions} --run {tmp_path}/evaluated --model {tmp_path}/model/model",
    )
    for name in ("search", "heads", "svm", "evaluated"):
        assert len(pq.read_table(tmp_path / name / "predictions.parquet")) == 48


def predictions(run: str) -> Any:
    table = pq.read_table(Path(run) / "predictions.parquet").sort_by("clip_id")
    return np.array([table[name] for name in table.column_names if name.startswith("prob_")])


def csv_of(run: str) -> Any:
    lines = sorted((Path(run) / "predictions.csv").read_text().splitlines())
    return np.array([[float(cell) for cell in line.split(",")[-2:]] for line in lines if ".wav" in line])


def vectors(run: str) -> Any:
    with duckdb.connect(str(Path(run) / "embeddings.db"), read_only=True) as database:
        return np.array(database.sql("SELECT embedding FROM embeddings ORDER BY clip_id").fetchall())


def weights(run: str) -> Any:
    tensors = safetensors.numpy.load_file(Path(run) / "model" / "model.safetensors")
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])


def jobs(
    place: Path, two_emotions: Path, cache_folder: Path
) -> dict[str, tuple[Callable[[Any], Any], Any, Callable[[str], Any]]]:
    """Each job's main function, its settings, and how to read its numbers, in an order in which they can run."""
    data, cache = DataConfig(uri=str(two_emotions)), CacheConfig(uri=str(cache_folder))
    run, training = {name: str(place / name) for name in "abcdefg"}, TrainingConfig(num_epochs=1)
    common: dict[str, Any] = {"data": data, "cache": cache}
    last = EncoderConfig(train="last", num_last_layers=1)
    search = SearchConfig(num_trials=2, max_concurrent_trials=1, pruning="none")
    model = str(place / "a" / "model")
    made = [
        (finetune, FinetuneConfig(run=run["a"], encoder=last, training=training, **common), predictions),
        (
            evaluate,
            EvaluateConfig(run=run["b"], model=model, data=data, resources=InferenceResources(num_workers=1)),
            predictions,
        ),
        (
            predict,
            PredictConfig(run=run["c"], model=model, data=data, resources=InferenceResources(num_workers=1)),
            csv_of,
        ),
        (extract_embeddings, ExtractConfig(run=run["d"], data=data, resources=ONE), vectors),
        (
            tune_folds,
            TuneFoldsConfig(run=run["e"], encoder=last, training=training, search=search, **common),
            predictions,
        ),
        (baseline, BaselineConfig(run=run["f"], svm=SvmConfig(features=("pitch",)), **common), predictions),
        (
            pretrain,
            PretrainConfig(
                run=run["g"],
                data=PretrainDataConfig(uri=str(two_emotions)),
                cache=cache,
                training=PretrainTrainingConfig(num_epochs=2),
            ),
            weights,
        ),
    ]
    return {job.__name__.rpartition(".")[2]: (job.main, config, read) for job, config, read in made}


@pytest.mark.slow
def test_the_numbers_are_those_of_ray(two_emotions: Path, tmp_path: Path, ray_session: Any) -> None:
    """Bit for bit where the same features are trained on; an encoder rounds otherwise on other batches and threads."""
    on_ray, here = (jobs(tmp_path / place, two_emotions, tmp_path / "cache") for place in ("ray", "here"))
    for name, (main, config, read) in on_ray.items():
        main(replace(config, local=False))
        local = replace(here[name][1], local=True)
        main(local)
        tolerance = 0 if name in ("finetune", "tune_folds", "baseline") else 2e-5
        assert np.allclose(read(config.run), read(local.run), rtol=0, atol=tolerance), name


def test_a_run_begun_on_ray_continues_locally_and_the_other_way_round() -> None:
    for config_class in (FinetuneConfig, TuneFoldsConfig, BaselineConfig, PretrainConfig):
        assert "local" in config_class.RESUMABLE


@pytest.mark.parametrize(
    ("config_class", "arguments"),
    [
        (FinetuneConfig, ["--resources.num_workers", "2"]),
        (PretrainConfig, ["--resources.num_workers", "2"]),
        (EvaluateConfig, ["--model", "m", "--resources.num_workers", "2"]),
        (PredictConfig, ["--model", "m", "--resources.num_workers", "2"]),
        (ExtractConfig, ["--resources.num_workers", "2"]),
        (TuneFoldsConfig, ["--resources.num_workers", "2"]),
        (TuneFoldsConfig, ["--search.max_concurrent_trials", "2", "--encoder.train", "last"]),
    ],
)
def test_several_workers_in_one_process_are_refused(config_class: Any, arguments: list[str]) -> None:
    with pytest.raises(UserError, match=r"local=true does all work in one process.*=2: leave out one"):
        parse(config_class, [*arguments, "--local", "true"])


def test_a_call_runs_when_its_result_is_asked_for() -> None:
    calls: list[int] = []
    workers = ThisProcess()
    reference = workers.task(calls.append, cpus=1, gpus=0).remote(3)
    assert calls == []
    workers.get(reference)
    assert calls == [3]
    results: dict[int, int] = {}
    double = workers.task(lambda number: 2 * number, cpus=1, gpus=0)
    workers.map_tasks(double.remote, [1, 2], num_at_once=1, on_done=results.__setitem__)
    assert results == {0: 2, 1: 4}
