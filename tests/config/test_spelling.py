"""Flags and files as users write them: short forms, earlier names, lists where a mapping is wanted, fields that are none."""

import logging

import pytest

from w2v2.config.command_line import dump, parse, parse_text
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.errors import UserError


@pytest.mark.parametrize(
    "words, path, value",
    [
        (["--data", "~/ravdess"], "data.uri", "~/ravdess"),
        (["--data=gs://b/x"], "data.uri", "gs://b/x"),
        (["data.uri=clips.csv"], "data.uri", "clips.csv"),
        (["--encoder", "tiny", "--folds", "grouped"], "folds.kind", "grouped"),
        (["--data", "{uri: a, num_readers: 3}"], "data.num_readers", 3),
        (["--optim.learning-rate", "1e-4"], "optim.learning_rate", 1e-4),
        (["--search.num-trials=3"], "search.num_trials", 3),
        (["--encoder.layers", "1"], "encoder.layer", 1),
        (["--encoder.layers=last"], "encoder.layer", "last"),
        (["--encoder.layer", "mix", "--encoder.layers", "[0, 2]"], "encoder.layers", (0, 2)),
    ],
)
def test_short_forms_are_understood(words, path, value):
    section, name = path.split(".")
    assert getattr(getattr(parse(TuneFoldsConfig, words), section), name) == value


def test_one_layer_has_the_same_flag_in_every_job():
    for flag in ("--encoder.layer", "--encoder.layers"):
        assert parse(ExtractConfig, [flag, "1"]).encoder.layers == 1
        assert parse(FinetuneConfig, [flag, "1"]).encoder.layer == 1


def test_a_split_that_is_no_section_stays_a_field():
    config = parse(EvaluateConfig, ["--model", "m", "--split", "test"])
    assert config.split == "test"
    assert parse(FinetuneConfig, ["--split", "fold"]).split.kind == "fold"


def test_a_file_may_have_short_forms_too(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(
        "encoder: tiny\ndata: ~/ravdess\nfolds: {kind: grouped, num_folds: 3}\noptim: {learning_rate: 3e-5}\n"
    )
    config = parse(TuneFoldsConfig, ["--config", str(file)])
    assert (config.encoder.name, config.data.uri, config.folds.num_folds) == ("tiny", "~/ravdess", 3)
    assert config.optim.learning_rate == 3e-5


EARLIER = [
    (TuneFoldsConfig, "search.cpus_per_trial", "resources.cpus_per_worker", 2.0),
    (TuneFoldsConfig, "search.gpus_per_trial", "resources.gpus_per_worker", 0.5),
    (TuneFoldsConfig, "search.workers_per_fold", "resources.num_workers", 2),
    (TuneFoldsConfig, "training.precision", "resources.precision", "bf16"),
    (FinetuneConfig, "workers", "resources.num_workers", 3),
    (FinetuneConfig, "cpus_per_worker", "resources.cpus_per_worker", 2.0),
    (PretrainConfig, "gpus_per_worker", "resources.gpus_per_worker", 0.0),
    (ExtractConfig, "workers.num_encoders", "resources.num_workers", 3),
    (ExtractConfig, "workers.clips_per_part", "resources.clips_per_part", 7),
    (ExtractConfig, "encoder.precision", "resources.precision", "bf16"),
    (PredictConfig, "workers.gpus_per_encoder", "resources.gpus_per_worker", 0.5),
]


@pytest.mark.parametrize("config_class, before, now, value", EARLIER)
def test_an_earlier_name_is_answered_with_the_line_to_write(config_class, before, now, value):
    with pytest.raises(UserError) as raised:
        parse(config_class, [f"--{before}", str(value)])
    assert str(raised.value) == f"{before} is now {now}: write --{now} {value}"


@pytest.mark.parametrize("config_class, before, now, value", EARLIER)
def test_a_file_of_an_earlier_version_is_read(config_class, before, now, value, tmp_path, caplog):
    """As `--config <run>/config.yaml` gives it, and as a run directory is compared with."""
    text = f"{before}: {value}\n"
    for name in reversed(before.split(".")[:-1]):
        text = f"{name}: {{{before.split('.')[-1]}: {value}}}\n"
    text += "model: m\n" if config_class is PredictConfig else ""
    section, name = now.split(".")
    assert getattr(getattr(parse_text(config_class, text), section), name) == value
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with caplog.at_level(logging.WARNING):
        config = parse(config_class, ["--config", str(file)])
    assert getattr(getattr(config, section), name) == value
    assert f"{before} is now {now}" in caplog.text
    assert parse_text(config_class, dump(config)) == config


@pytest.mark.parametrize(
    "words, message",
    [
        (["--search.space", "{optim.learning_rate: [1e-5, 1e-3]}"], "write optim.learning_rate: {low: 1e-5, high: 1e-3} for the interval or {choices: [1e-5, 1e-3]}"),
        (["--search.space", "{encoder.pooling: mean}"], "encoder.pooling is mean: write encoder.pooling: {choices: [mean]}"),
        (["--lr", "1e-4"], "there is no field lr, did you mean optim.learning_rate"),
        (["--epochs", "3"], "there is no field epochs, did you mean training.num_epochs"),
        (["--batch_size", "3"], "there is no field batch_size, did you mean optim.batch_size"),
        (["--smoothing", "0.1"], "there is no field smoothing, did you mean training.label_smoothing"),
        (["--data.ur", "x"], "there is no field data.ur, did you mean data.uri"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_answered_with_what_may_be_meant(words, message):
    with pytest.raises(UserError) as raised:
        parse(TuneFoldsConfig, words)
    assert message in str(raised.value) and "\n" not in str(raised.value)
