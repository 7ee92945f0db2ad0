"""The command line: defaults, files, flags, help and exit codes."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import pytest
import yaml

from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.config.baseline import BaselineConfig
from w2v2.config.command_line import dump, parse, run_job
from w2v2.config.compare import CompareConfig
from w2v2.config.data import DataConfig
from w2v2.config.export import ExportConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """Write a YAML file and give its path."""

    def write(text: str) -> str:
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        return str(path)

    return write


def parsed(*args: str) -> TuneFoldsConfig:
    return parse(TuneFoldsConfig, args)


# -- defaults < file < flags


def test_without_arguments_everything_is_default():
    assert parsed() == TuneFoldsConfig()


def test_file_beats_default_and_flag_beats_file_wherever_it_is_given(file):
    path = file("optim:\n  learning_rate: 3e-5\n  eps: 1e-6\nencoder: {layer: mix}\n")
    for args in (
        ["--config", path, "--optim.eps", "0.5"],
        ["--optim.eps", "0.5", "--config", path],
        ["--optim.eps=0.5", f"--config={path}"],
    ):
        config = parsed(*args)
        assert config.optim == OptimConfig(learning_rate=3e-5, eps=0.5)
        assert config.encoder == EncoderConfig(layer="mix")


def test_of_two_files_the_later_wins(file, tmp_path):
    first = file("seed: 1\nrun: a\n")
    second = tmp_path / "second.yaml"
    second.write_text("seed: 2\n")
    config = parsed("--config", first, "--config", str(second))
    assert (config.seed, config.run) == (2, "a")


def test_numbers_with_an_exponent_are_numbers(file):
    """YAML 1.1 reads 3e-5, without a dot, as a string."""
    assert yaml.safe_load("3e-5") == "3e-5"
    config = parsed(
        "--config", file("optim: {learning_rate: 3e-5}"), "--search.space", "{optim.eps: {choices: [1e-8, 2e-7]}}"
    )  # fmt: skip
    assert config.optim.learning_rate == 3e-5
    assert config.search.space["optim.eps"].choices == (1e-8, 2e-7)


@pytest.mark.parametrize("text, expected", [("3", 3), ("last", "last"), ("mix", "mix")])
def test_a_layer_is_a_number_or_a_word(text, expected):
    layer = parsed("--encoder.layer", text).encoder.layer
    assert layer == expected and type(layer) is type(expected)


def test_choices_keep_their_types():
    space = "{optim.batch_size: {choices: [1, 0, 8]}, optim.amsgrad: {choices: [true, false]}, optim.eps: {choices: [1e-8]}, optim.schedule: {choices: [linear]}}"
    config = parsed("--search.space", space)
    choices = [value for dimension in config.search.space.values() for value in dimension.choices]
    assert [repr(value) for value in choices] == ["1", "0", "8", "True", "False", "1e-08", "'linear'"]


@pytest.mark.parametrize(
    "args, message",
    [
        (
            ["--optim.learning_rte", "1"],
            r"^there is no field optim\.learning_rte, did you mean optim\.learning_rate; --help lists all",
        ),
        (
            ["--optim.learning", "1"],
            r"^there is no field optim\.learning, did you mean optim\.learning_rate;",
        ),
        (["--optim.learning_rate", "fast"], r"^optim\.learning_rate: got fast, wanted a number;"),
        (["--optim.learning_rate", "-1"], r"^optim\.learning_rate must be positive, got -1\.0$"),
        (["--encoder.train", "some"], r"^encoder\.train: got some, wanted one of all, no_conv, last, head;"),
        (
            ["--encoder.layer", "middle"],
            r"^encoder\.layer: got middle, wanted one of last, mix, concat or a whole number;",
        ),
        (["--seed", "1.5"], r"^seed: got 1\.5, wanted a whole number;"),
        (
            ["--config", "/nowhere/x.yaml"],
            r"^--config /nowhere/x\.yaml: there is no such file; give a YAML file",
        ),
        (["stray"], r"unrecognized arguments: stray"),
        (["--search.space", "{optim.lr: {low: 1, high: 2}}"], r"'optim\.lr' is not a field; optim has"),
    ],
)
def test_wrong_flags_are_named_in_one_line(args, message):
    with pytest.raises(UserError, match=message) as raised:
        parsed(*args)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "optim: {learning_rte: 1}",
            r"^there is no field optim\.learning_rte, did you mean optim\.learning_rate;",
        ),
        (
            "optin: {learning_rate: 1}",
            r"^there is no field optin\.learning_rate, did you mean optim\.learning_rate;",
        ),
        ("optim: {learning_rate: fast}", r"^optim\.learning_rate: got fast, wanted a number;"),
        ("optim: {learning_rate: -1}", r"^optim\.learning_rate must be positive, got -1"),
        ("search: {space: {optim.eps: {lo: 1}}}", r"^search\.space: there is no field lo"),
        ("search: {space: {optim.eps: {low: a}}}", r"^search\.space low: got a, wanted a number"),
        ("data: {classes: 3}", r"^data\.classes: got 3, wanted names with values as {a: b}"),
        ("optim: [", r"^--config \S+ is not YAML \(line \d\): wanted UTF-8 YAML with names and values"),
    ],
)
def test_wrong_files_are_named_in_one_line(file, text, message):
    with pytest.raises(UserError, match=message) as raised:
        parsed("--config", file(text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "config",
    [
        FinetuneConfig(), TuneFoldsConfig(), PretrainConfig(), BaselineConfig(), ExtractConfig(), BenchmarkConfig(cases=("head",)),
        EvaluateConfig(model="m"), PredictConfig(model="m"), ExportConfig(model="m"), CompareConfig(runs=("a", "b")),
    ],
    ids=lambda config: type(config).__name__,
)  # fmt: skip
def test_every_jobs_own_config_yaml_can_be_given_again(file, config):
    assert parse(type(config), ["--config", file(dump(config))]) == config


def test_a_dump_is_read_back_equal(file):
    config = TuneFoldsConfig(
        seed=3,
        run="gs://bucket/r\u00fcn",
        data=DataConfig(classes={"calm": "neutral", "no": "yes", "1": "2"}),
        encoder=EncoderConfig(layer=3, pooling="mean+std"),
        head=HeadConfig(widths=(7, 5)),
        optim=OptimConfig(learning_rate=1.2345678901234567e-05, eps=1e-300),
        search=SearchConfig(
            space={
                "optim.learning_rate": Dimension(low=1e-5, high=1e-3, log=True),
                "optim.schedule": Dimension(choices=("linear", "constant")),
                "encoder.layer": Dimension(choices=("mix", 1, 2)),
                "optim.amsgrad": Dimension(choices=(True, False)),
            }
        ),
    )
    assert parsed("--config", file(dump(config))) == config
    assert parsed("--config", file(dump(TuneFoldsConfig()))) == TuneFoldsConfig()
    assert parsed("--config", file(dump(config)), "--seed", "4") == replace(config, seed=4)


@pytest.mark.parametrize(
    "config",
    [
        ExtractConfig(labels=True, encoder=VectorConfig(layers="all")),
        ExtractConfig(labels=("label", "age"), window_s=2.0, encoder=VectorConfig(layers=(0, 3))),
    ],
    ids=["words", "lists"],
)
def test_a_dump_of_vectors_is_read_back_equal(file, config):
    assert parse(ExtractConfig, ["--config", file(dump(config))]) == config


def test_help_shows_every_field_with_its_docstring(capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed("--help")
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag, words in [
        ("--optim.learning_rate", "Peak learning rate; 0 depends on what is trained"),
        ("--data.uri", "A folder or gs:// prefix of RAVDESS files"),
        ("--training.label_smoothing", "Probability mass spread over all classes."),
        ("--search.space", "Searched fields by path"),
        ("--run", "The run directory, local or gs://"),
        ("--encoder.train", "The part that is trained: everything, all but the convolutions"),
    ]:
        assert flag in text and words in text
    for section in fields(TuneFoldsConfig):
        if is_dataclass(section.type):
            for field in fields(section.type):
                assert f"--{section.name}.{field.name}" in text


# -- a job's exit codes


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """A job for these tests."""

    number: int = 1
    """A number."""


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """run_job sets logging up for a whole process; these tests are not the last of theirs."""
    level = logging.getLogger("w2v2").level
    root_handlers = logging.getLogger().handlers[:]
    warnings_level = logging.getLogger("py.warnings").level
    yield
    logging.captureWarnings(False)
    logging.getLogger("w2v2").setLevel(level)
    logging.getLogger("py.warnings").setLevel(warnings_level)
    logging.getLogger().handlers[:] = root_handlers


def test_a_job_that_ends_well_gives_0(capsys):
    seen = []
    assert run_job(seen.append, JobConfig, ["--number", "7"]) == 0
    assert seen == [JobConfig(number=7)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "args, expected",
    [
        (["--number", "7"], "error: data.uri 7: no such folder; give another\n"),
        (
            ["--nubmer", "7"],
            "error: there is no field nubmer, did you mean number; --help lists all settings\n",
        ),
    ],
)
def test_a_users_mistake_gives_2_and_one_line(capsys, args, expected):
    def main(config: JobConfig) -> None:
        raise UserError(f"data.uri {config.number}:\n  no such folder;   give another")

    assert run_job(main, JobConfig, args) == 2
    assert capsys.readouterr().err == expected


def test_an_interrupt_gives_130_and_says_how_to_resume(capsys):
    def main(config: JobConfig) -> None:
        raise KeyboardInterrupt

    assert run_job(main, JobConfig, []) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_job(lambda config: 1 // 0, JobConfig, [])
