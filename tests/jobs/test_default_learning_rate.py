"""A job's default learning rate suits the encoder, and is in its settings, numbers and page; runs of earlier versions continue."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from transformers import Wav2Vec2FeatureExtractor

from tests.made.corpora import labelled_csv
from tests.made.encoders import random_model
from w2v2.config import command_line
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.tune_folds import Dimension, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.jobs import finetune, tune_folds

EARLIER = 1.5e-3
"""The default that versions had for every encoder."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_csv(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    random_model().save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def config_of(tmp_path: Path, corpus: Path, *flags: str) -> FinetuneConfig:
    common = [
        "--data.uri",
        str(corpus),
        "--run",
        str(tmp_path / "run"),
        "--cache.uri",
        str(tmp_path / "cache"),
    ]
    return command_line.parse(
        FinetuneConfig, [*common, "--local", "true", "--training.num_epochs", "1", *flags]
    )


@pytest.mark.parametrize("train, rate", [("head", 1.5e-3), ("last", 3e-5)])
def test_the_rate_of_a_checkpoint_is_used_and_written(
    train: str, rate: float, tmp_path: Path, corpus: Path, checkpoint: Path
) -> None:
    config = config_of(tmp_path, corpus, "--encoder.name", str(checkpoint), "--encoder.train", train)
    config = replace(config, optim=replace(config.optim, schedule="constant", warmup_fraction=0.0))
    finetune.main(config)
    run = tmp_path / "run"
    assert yaml.safe_load((run / "config.yaml").read_text())["optim"]["learning_rate"] == rate
    assert json.loads((run / "metrics.json").read_text())["learning_rate"] == rate
    assert (
        json.loads((run / "model/w2v2.json").read_text())["card"]["settings"]["optim"]["learning_rate"]
        == rate
    )
    page = (run / "report.html").read_text()
    assert f"at a learning rate of up to {rate:g}" in page and "peak learning rate" in page
    # The same command again, with the rate written out: the same run.
    again = finetune.main(replace(config, optim=replace(config.optim, learning_rate=rate)))
    assert again["later_sessions"]


def test_a_run_of_an_earlier_version_continues_or_is_refused_with_both_rates(
    tmp_path: Path, corpus: Path, checkpoint: Path
) -> None:
    config = config_of(tmp_path, corpus, "--encoder.train", "head")
    earlier = replace(config, optim=replace(config.optim, learning_rate=EARLIER))
    assert finetune.main(earlier)["model"] == finetune.main(config)["model"]
    last = config_of(tmp_path / "last", corpus, "--encoder", str(checkpoint), "--encoder.train", "last")
    finetune.main(replace(last, optim=replace(last.optim, learning_rate=EARLIER)))
    with pytest.raises(
        UserError, match=r"holds a run with optim\.learning_rate = 0\.0015, now it is 3e-05: give"
    ):
        finetune.main(last)
    kept = command_line.parse(FinetuneConfig, ["--config", str(tmp_path / "last/run/config.yaml")])
    assert finetune.main(kept)["later_sessions"]


def search_of(tmp_path: Path, corpus: Path, checkpoint: Path, *flags: str) -> TuneFoldsConfig:
    """A search of one epoch over two folds, in this process."""
    places = [
        "--data.uri",
        str(corpus),
        "--run",
        str(tmp_path / "run"),
        "--cache.uri",
        str(tmp_path / "cache"),
    ]
    folds = ["--folds.kind", "grouped", "--folds.num_folds", "2", "--local", "true"]
    small = ["--encoder", str(checkpoint), "--training.num_epochs", "1"]
    return command_line.parse(TuneFoldsConfig, [*places, *folds, *small, *flags])


@pytest.mark.slow
def test_a_search_that_tries_rates_continues_whatever_its_own_was(
    tmp_path: Path, corpus: Path, checkpoint: Path
) -> None:
    config = search_of(tmp_path, corpus, checkpoint, "--encoder.train", "last", "--search.num_trials", "1")
    space = {"optim.learning_rate": Dimension(low=1e-5, high=1e-2, log=True)}
    config = replace(config, search=replace(config.search, space=space))
    earlier = tune_folds.main(replace(config, optim=replace(config.optim, learning_rate=EARLIER)))
    assert earlier["params"] == {"optim.learning_rate": EARLIER} and earlier["learning_rate"] == EARLIER
    more = tune_folds.main(replace(config, search=replace(config.search, num_trials=2)))
    assert more["selection"]["num_trials"] == 2


@pytest.mark.slow
def test_trials_that_differ_in_what_they_train_have_rates_of_their_own(
    tmp_path: Path, corpus: Path, checkpoint: Path
) -> None:
    config = search_of(tmp_path, corpus, checkpoint, "--search.num_trials", "4", "--search.pruning", "none")
    space = {"encoder.train": Dimension(choices=("head", "last"))}
    config = replace(config, search=replace(config.search, space=space))
    metrics = tune_folds.main(
        replace(config, optim=replace(config.optim, schedule="constant", warmup_fraction=0.0))
    )
    trials = pq.read_table(tmp_path / "run/trials.parquet").to_pylist()
    curves = pq.read_table(tmp_path / "run/curves.parquet").to_pylist()
    by_trial = {row["trial"]: row["params_encoder.train"] for row in trials}
    rates = {(by_trial[row["trial"]], row["learning_rate"]) for row in curves}
    assert rates == {("head", 1.5e-3), ("last", 3e-5)}
    train = metrics["params"]["encoder.train"]
    assert metrics["learning_rate"] == {"head": 1.5e-3, "last": 3e-5}[train]
    best = yaml.safe_load((tmp_path / "run/best.yaml").read_text())
    assert best["optim"]["learning_rate"] == metrics["learning_rate"]
