"""Every job accounts for all that it was given: log, metrics.json, page and rejects.parquet agree, and the plan after it."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.made.accounting import check_accounts
from tests.results.test_plan import speech
from w2v2.config import command_line
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.jobs import evaluate, extract_embeddings, finetune, predict, pretrain


@pytest.mark.slow
def test_accounts_of_jobs_and_of_their_plans(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    common = [
        "--data.uri",
        str(speech(tmp_path / "d")),
        "--data.max_reject_fraction",
        "0.5",
        "--local",
        "true",
    ]
    cache = ["--cache.uri", str(tmp_path / "cache")]
    model = ["--model", str(tmp_path / "finetune" / "model")]
    training = [
        "--training.num_epochs",
        "1",
        "--encoder.train",
        "head",
        "--split.test_fraction",
        "0.3",
        *cache,
    ]
    jobs: dict[str, tuple[Any, type, list[str]]] = {
        "finetune": (finetune, FinetuneConfig, training),
        "evaluate": (evaluate, EvaluateConfig, model),
        "predict": (predict, PredictConfig, model),
        "extract": (extract_embeddings, ExtractConfig, []),
        "pretrain": (pretrain, PretrainConfig, ["--training.num_epochs", "1", *cache]),
    }
    for name, (job, kind, words) in jobs.items():
        flags = [*common, "--run", str(tmp_path / name), *words]
        job.main(command_line.parse(kind, flags))
        numbers = check_accounts(tmp_path / name, caplog.text)
        needs_labels = name in ("finetune", "evaluate")
        assert numbers["given"] == 14 and numbers["used"] == (12 if needs_labels else 13)
        assert numbers["rejected"] == {"missing": 1} | ({"label is empty": 1} if needs_labels else {})
        plan = job.main(command_line.parse(kind, [*flags, "--plan", "true"]))
        if name in ("evaluate", "predict", "extract"):
            assert plan["num_done"] == numbers["used"]
        if name == "finetune":
            assert (plan["num_cached"], plan["num_to_compute"]) == (12, 0)
