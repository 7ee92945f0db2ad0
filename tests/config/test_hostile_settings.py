"""Settings that no one can mean end in one sentence that names the field and shows nothing of a file."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from w2v2.config.baseline import BaselineConfig
from w2v2.config.command_line import parse
from w2v2.config.compare import CompareConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.errors import UserError

CONFIGS: list[Any] = [
    BaselineConfig,
    CompareConfig,
    ExtractConfig,
    FinetuneConfig,
    EvaluateConfig,
    PredictConfig,
    PretrainConfig,
    TuneFoldsConfig,
]
SECRET = "hunter2-in-clear"


def paths(config_class: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, kind in get_type_hints(config_class).items():
        if is_dataclass(kind):
            yield from paths(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


def outcome(config_class: Any, path: Path) -> str:
    needed = ["--model", "m"] if "model" in {f.name for f in fields(config_class)} else []
    try:
        parse(config_class, ["--config", str(path), *needed])
    except UserError as error:
        return str(error)
    return ""


HOSTILE = [
    "",
    " null",
    " .nan",
    " .inf",
    " -.inf",
    " 1.0e+30",
    " [[[]]]",
    " {a: {b: c}}",
    " !!python/object:os.system {}",
]


def problem_with(config_class: Any, field: str, kind: Any, value: str, path: Path) -> str:
    """What is wrong with the answer to the value; empty where it is a sentence, or the value is one to take."""
    *sections, name = field.split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    path.write_text("\n".join([*lines, f"{'  ' * len(sections)}{name}:{value}"]))
    message = outcome(config_class, path)
    if kind in (int, float) and not message:
        return f"{field}={value} is taken"
    return f"{field}={value}: {message}" if "\n" in message or "Traceback" in message else ""


def test_a_hostile_value_for_every_field(tmp_path: Path) -> None:
    """Each field of any job once; the values take turns."""
    fields_of = {field: (config, kind) for config in CONFIGS for field, kind in paths(config)}
    problems = [
        problem_with(config_class, field, kind, HOSTILE[number % len(HOSTILE)], tmp_path / "c.yaml")
        for number, (field, (config_class, kind)) in enumerate(fields_of.items())
    ]
    assert [problem for problem in problems if problem] == []


@pytest.mark.slow
@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_hostile_value_for_every_field(config_class: Any, tmp_path: Path) -> None:
    problems = [
        problem_with(config_class, field, kind, value, tmp_path / "c.yaml")
        for field, kind in paths(config_class)
        for value in HOSTILE
    ]
    assert [problem for problem in problems if problem] == []


FILES: dict[str, bytes] = {
    "utf-16": "seed: 1".encode("utf-16"),
    "no yaml": f"password = {SECRET}: [".encode(),
    "text": SECRET.encode(),
    "a list": f"- {SECRET}".encode(),
    "a key": f"-----BEGIN KEY-----\n{SECRET}\n-----END KEY-----".encode(),
    "binary": b"PK\x03\x04\x00" + SECRET.encode(),
    "bomb": b"a: &a [x, x]\nb: &b [*a, *a]\nseed: *b\n",
    "deep": b"[" * 5_000,
    "empty": b"",
    "numbers": b"1: 2\n",
    "large": b"# " + b"x" * 2**21,
}


@pytest.mark.parametrize("name", FILES)
def test_a_config_file_that_is_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(FILES[name])
    message = outcome(FinetuneConfig, path)
    assert message.startswith(f"--config {path}") and SECRET not in message and len(message) < 300


def test_a_missing_config_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "pipe"):
        assert "there is no such file" in outcome(FinetuneConfig, path)


def test_a_long_value_is_not_repeated_whole(tmp_path: Path) -> None:
    message = outcome(FinetuneConfig, _written(tmp_path / "c.yaml", f"seed: {'a' * 5_000}z"))
    assert message.startswith("seed: got aaa") and "a...a" in message and len(message) < 500


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


JOB = """
import sys
from dataclasses import dataclass
from w2v2.config.command_line import run_job
@dataclass(frozen=True)
class Config:
    seed: int = 0
def main(config):
    try:
        print("ready", flush=True)
        sys.stdin.readline()
    finally:
        print("cleaned up", flush=True)
sys.exit(run_job(main, Config, sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_job_in_a_sentence(number: signal.Signals) -> None:
    assert _ended_by(number) == (
        128 + number,
        "cleaned up\n",
        "stopped; run the same command again to resume\n",
    )


def test_nohup_keeps_a_job_from_ending_with_its_terminal() -> None:
    assert _ended_by(signal.SIGHUP, ignored=[signal.SIGHUP]) == (0, "cleaned up\n", "")


def _ended_by(number: signal.Signals, *, ignored: Sequence[signal.Signals] = ()) -> tuple[int, str, str]:
    """Exit code, output and errors of a job to which a signal is sent, started by a process that ignores some."""

    def inherited() -> None:  # the tests may themselves run under nohup
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN if each in ignored else signal.SIG_DFL)

    pipe, command = subprocess.PIPE, [sys.executable, "-c", JOB]
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, preexec_fn=inherited
    ) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        if number not in ignored:
            process.wait(timeout=60)
        out, err = process.communicate(timeout=60)  # a job that goes on reads the end of its input
    return process.returncode, out, err


def test_formulas_in_a_csv_of_predictions() -> None:
    import pyarrow as pa

    from w2v2.inference.predictions_table import to_csv

    ids = ["=1+1", "+1", "-1", "@x", "\tx", "a=b", ""]
    text = to_csv(pa.table({"clip_id": ids, "pred_valence": [-0.5] * len(ids)})).decode()
    cells = [line.rpartition(",")[0] for line in text.splitlines()[1:]]
    assert cells[:4] == ["'=1+1", "'+1", "'-1", "'@x"] and cells[5] == "a=b"
    assert all(line.endswith(",-0.5") for line in text.splitlines()[1:])


def test_a_name_that_is_there_twice_is_refused_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    for text, name, line in [
        ("data: {uri: a.csv}\nseed: 1\ndata: {uri: b.csv}\n", "data", 3),
        ("optim:\n  batch_size: 8\n  batch_size: 16\n", "optim.batch_size", 3),
    ]:
        path.write_text(text)
        assert (
            outcome(FinetuneConfig, path)
            == f"--config {path} has {name} twice (line {line}): remove all but one"
        )
    path.write_text("data: {uri: a.csv}\noptim: {batch_size: 8}\n")
    assert outcome(FinetuneConfig, path) == ""
