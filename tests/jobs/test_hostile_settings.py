"""Settings that no one can mean, in every field of every job: refused in a sentence before any worker starts, or usable."""

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.config.test_hostile_settings import CONFIGS, paths
from w2v2.config.command_line import parse
from w2v2.errors import UserError

JOBS = {
    "BaselineConfig": "baseline",
    "CompareConfig": "compare",
    "EvaluateConfig": "evaluate",
    "ExtractConfig": "extract_embeddings",
    "FinetuneConfig": "finetune",
    "PredictConfig": "predict",
    "PretrainConfig": "pretrain",
    "TuneFoldsConfig": "tune_folds",
}
VALUES = (
    "null", ".nan", ".inf", "-.inf", "1.0e+30", "1.0e+15", "99999999", "-1", "-0.5", "0", "''", "' '", "[[[]]]", "[]",
    "[1, 1]", "[-1]", "{a: {b: c}}", "{}", "true", '"a\\0b"', "gs://x", "ftp://a/b", "../nowhere", "/dev/null",
    "/dev/zero", "/proc/self/mem", "~nobody/x", "é", "!!python/object:os.system {}", "2023-01-01", "a" * 5_000, "%s%n",
)  # fmt: skip


class StartedError(Exception):
    """Raised in place of starting workers."""


@pytest.fixture(scope="module")
def audio(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips: two emotions of 24 actors."""
    folder = tmp_path_factory.mktemp("audio")
    for path in corpus.rglob("*.wav"):
        if path.stem.split("-")[2] in ("03", "05"):
            shutil.copy(path, folder / path.name)
    return folder


def settings(config_class: Any, field: str, value: str, audio: Path, place: Path) -> Iterator[str]:
    """The arguments: the value in a file, and places of this test where they are not the field."""
    *sections, name = field.split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    (place / "c.yaml").write_text("\n".join([*lines, f"{'  ' * len(sections)}{name}: {value}"]))
    yield f"--config={place}/c.yaml"
    places = {
        "run": f"{place}/run",
        "data.uri": str(audio),
        "cache.uri": f"{place}/cache",
        "model": f"{place}/no-model",
        "runs": f"[{place}/a, {place}/b]",
    }
    names = {name for name, _ in paths(config_class)}
    yield from (f"--{name}={place}" for name, place in places.items() if name in names and name != field)


@pytest.mark.slow
@pytest.mark.parametrize("config_class", CONFIGS)
def test_a_hostile_value_for_every_field(
    config_class: Any, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values take turns over the fields; four for each."""
    monkeypatch.chdir(tmp_path)
    job = importlib.import_module(f"w2v2.jobs.{JOBS[config_class.__name__]}")

    def start(*_: Any, **__: Any) -> None:
        raise StartedError

    for module in (job, importlib.import_module("w2v2.cluster.features")):
        if hasattr(module, "start_workers"):
            monkeypatch.setattr(module, "start_workers", start)
    for number, (field, _) in enumerate(paths(config_class)):
        for turn in range(4):
            value = VALUES[(number + turn * 8) % len(VALUES)]
            place = tmp_path / f"{number}-{turn}"
            place.mkdir()
            try:
                job.main(parse(config_class, list(settings(config_class, field, value, audio, place))))
            except StartedError:
                continue
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 1_000, (field, value)
