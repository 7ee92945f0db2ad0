"""Bad luck ends well: whatever happens to a run, the same command again ends with the same numbers.

Each draw takes a job, stops it at a random one of the files that its driver writes (Ctrl-C, a full disk, a
bucket that does not answer), does something to what it left (a flipped bit, a deleted cache, a moved
directory), runs it again and compares with a run that nothing happened to. W2V2_FAULT_DRAWS=100 draws more.
"""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.jobs.searches import make_config
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.config.extract_embeddings import ExtractConfig, WorkersConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, TrainingConfig
from w2v2.config.tune_folds import SearchConfig
from w2v2.errors import UserError
from w2v2.jobs import extract_embeddings, finetune, tune_folds
from w2v2.storage import files as storage

NUM_DRAWS = int(os.environ.get("W2V2_FAULT_DRAWS", "6"))
MAX_ATTEMPTS = 4

ENDS: dict[str, Callable[[str], BaseException]] = {
    "stopped": lambda uri: KeyboardInterrupt(),
    "full disk": lambda uri: storage.RefusedError(f"{uri}: No space left on device; free the disk"),
    "unreachable": lambda uri: storage.UnreachableError(
        f"{uri}: could not be reached; run the same command again"
    ),
}
DAMAGES = ("nothing", "bit", "cache", "moved", "other settings")
# Not trusted later, or (databases) with checks of their own, which have tests of their own.
NOT_TRUSTED = (
    ".db",
    ".html",
    ".png",
    ".csv",
    ".tex",
    ".md",
    ".wal",
    "lease.json",
    "metrics.json",
    "mark.txt",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of small data, how its numbers are read, and settings that belong to another run."""

    main: Callable[[Any], Any]
    config: Any
    """With run and cache below the folder `place`."""
    numbers: Callable[[Path], Any]
    other: Callable[[Any], Any] | None = None
    """The same directory with other settings in between, where a job allows that."""


def rows_of(run: Path) -> dict[tuple, np.ndarray]:
    with duckdb.connect(str(run / "embeddings.db"), read_only=True) as connection:
        rows = connection.sql("FROM embeddings").to_arrow_table().to_pylist()
    return {(row["clip_id"], row["layer"], row["start_s"]): np.array(row["embedding"]) for row in rows}


def predictions_of(run: Path) -> dict[tuple, np.ndarray]:
    """What was predicted of each clip, as exact numbers."""
    table = pq.read_table(run / "predictions.parquet")
    numbers = [name for name in table.column_names if name.startswith("prob_")]
    return {
        (row["clip_id"], row["predicted"]): np.array([row[n] for n in numbers]) for row in table.to_pylist()
    }


def jobs(place: Path, audio: Path) -> dict[str, Job]:
    run, cache, data = str(place / "run"), CacheConfig(uri=str(place / "cache")), DataConfig(uri=str(audio))
    encoder = EncoderConfig(train="last", num_last_layers=1)
    search = SearchConfig(num_trials=2, max_concurrent_trials=1, pruning="none")
    return {
        "extract": Job(
            main=extract_embeddings.main,
            config=ExtractConfig(run=run, data=data, workers=WorkersConfig(num_encoders=1, clips_per_part=5)),
            numbers=rows_of,
            other=lambda config: replace(config, audio=AudioConfig(crop_s=0.4)),
        ),
        "finetune": Job(
            main=finetune.main,
            config=FinetuneConfig(
                run=run, data=data, cache=cache, encoder=encoder, training=TrainingConfig(num_epochs=3)
            ),
            numbers=predictions_of,
        ),
        "tune_folds": Job(
            main=tune_folds.main,
            config=make_config(
                place, audio, encoder=encoder, search=search, training=TrainingConfig(num_epochs=1)
            ),
            numbers=predictions_of,
        ),
    }


class Writes:
    """The files that the driver writes are counted, and at one of them it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.end_at, self.end = 0, 0, ENDS["stopped"]
        for name in ("write_bytes", "write_version", "write_many", "create"):
            monkeypatch.setattr(storage, name, self._counted(getattr(storage, name)))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.end_at:
                raise self.end(str(args[0]))
            return write(*args, **kwargs)

        return counted


@pytest.fixture(scope="module")
def audio(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of twelve actors, two each of two emotions and more."""
    folder = tmp_path_factory.mktemp("audio")
    for path in sorted(corpus.rglob("*.wav")):
        if int(path.stem[-2:]) <= 24 and path.stem.split("-")[2] in ("03", "05"):
            (folder / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, folder / path.parent.name / path.name)
    return folder


@pytest.fixture(scope="module")
def undisturbed(audio: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: Any) -> dict[str, Any]:
    """The numbers of each job, and how many files its driver writes."""
    found = {}
    for name in ("extract", "finetune", "tune_folds"):
        place = tmp_path_factory.mktemp(name)
        job = jobs(place, audio)[name]
        with pytest.MonkeyPatch.context() as patch:
            writes = Writes(patch)
            job.main(job.config)
        found[name] = (job.numbers(place / "run"), writes.count)
    return found


def flip_a_bit(place: Path, rng: random.Random) -> str:
    """Damage one file that a later attempt trusts; its name."""
    trusted = [
        path
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.stat().st_size and not path.name.endswith(NOT_TRUSTED)
        if not {"model", "tensorboard", "plots", "tables"} & set(path.relative_to(place).parts)
    ]
    if not trusted:
        return "nothing there"
    path = rng.choice(trusted)
    body = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(body))
    body[bit // 8] ^= 1 << bit % 8
    path.write_bytes(body)
    return f"{path.relative_to(place)} bit {bit}"


def disturb(damage: str, job: Job, place: Path, rng: random.Random) -> tuple[Any, str]:
    """The config of the next attempt, and what was done."""
    match damage:
        case "bit":
            return job.config, flip_a_bit(place, rng)
        case "cache":
            shutil.rmtree(place / "cache", ignore_errors=True)
            return job.config, "cache deleted"
        case "moved" if (place / "run").exists():
            shutil.move(place / "run", place / "elsewhere")
            return replace(job.config, run=str(place / "elsewhere")), "moved"
        case "other settings" if job.other is not None:
            job.main(job.other(job.config))
            return job.config, "ran with other settings"
        case _:
            return job.config, "nothing"


def run_until_done(job: Job, config: Any) -> int:
    """The number of attempts; each that does not come to its end says to run the same command again."""
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            job.main(config)
            return attempt
        except UserError as error:
            assert "run the same command again" in str(error), error
    raise AssertionError(f"not done after {MAX_ATTEMPTS} attempts")


def tolerance_of(name: str, damage: str) -> float:
    """How much numbers may differ: not at all, but where an encoder runs again on other batches, which it rounds otherwise."""
    if name == "extract":
        return 2e-5
    return 1e-3 if damage in ("bit", "cache") else 0.0


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(NUM_DRAWS))
def test_the_same_command_again_ends_with_the_same_numbers(
    draw: int, undisturbed: dict[str, Any], audio: Path, tmp_path: Path
) -> None:
    rng = random.Random(f"faults {draw}")
    name = ("extract", "finetune", "tune_folds")[draw % 3]
    job = jobs(tmp_path, audio)[name]
    wanted, num_writes = undisturbed[name]
    with pytest.MonkeyPatch.context() as patch:
        writes = Writes(patch)
        end = rng.choice(sorted(ENDS))
        writes.end, writes.end_at = ENDS[end], rng.randint(1, num_writes + 1)
        try:
            job.main(job.config)
        except (KeyboardInterrupt, UserError) as error:
            assert writes.count >= writes.end_at, error
    damage = rng.choice(DAMAGES)
    config, done = disturb(damage, job, tmp_path, rng)
    story = f"{name}: {end} at write {writes.end_at} of {num_writes}, then {damage} ({done})"
    attempts = run_until_done(job, config)
    found = job.numbers(Path(config.run))
    assert found.keys() == wanted.keys(), story
    for key, values in wanted.items():
        tolerance = tolerance_of(name, damage)
        assert np.allclose(found[key], values, rtol=0, atol=tolerance), f"{story}, {key}, {attempts} attempts"
