"""Bad luck ends well: whatever happens to a run, the same command again ends with the same numbers.

Each draw takes a job, ends it at a random one of the files that it writes (Ctrl-C, a disk that is full from then on, a
place that does not answer from then on), does something to what it left (a flipped bit, a deleted cache, a moved
directory, another command in the same directory), runs it again and compares with a run that nothing happened to.
W2V2_FAULT_DRAWS=100 draws more; every twentieth is on Ray, the others in this process.
"""

import errno
import functools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.made.campaign_jobs import Job, jobs, sentences_of
from tests.made.corpora import sentences_csv
from tests.made.pictures import no_pictures
from w2v2.config.model import TrainingConfig
from w2v2.errors import UserError
from w2v2.storage import local as local_files

NUM_DRAWS = int(os.environ.get("W2V2_FAULT_DRAWS", "21"))
MAX_ATTEMPTS = 4
ENDS = ("stopped", "full disk", "unreachable")
DAMAGES = ("nothing", "bit", "bit", "cache", "moved", "other settings")
NOT_TRUSTED = (".html", ".png", ".csv", ".tex", ".md", "lease.json", "mark.txt")
"""Files that no later attempt takes anything from."""
PICTURES = {"tensorboard", "plots", "tables"}


NAMES = tuple(jobs(Path("place"), Path("audio"), Path("model")))


class Writes:
    """Counts the files that a job writes; from the one at which it ends on, nothing more is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.end_at, self.end = 0, 0, "stopped"
        self._write_bytes, self._read = Path.write_bytes, local_files.read
        monkeypatch.setattr(Path, "write_bytes", lambda path, data: self._write(path, data))
        monkeypatch.setattr(local_files, "read", self._read_or_fail)

    @property
    def has_ended(self) -> bool:
        return 0 < self.end_at <= self.count

    def _write(self, path: Path, data: bytes) -> int:
        self.count += 1
        if not self.has_ended:
            return self._write_bytes(path, data)
        if self.end == "stopped":
            if self.count == self.end_at:
                raise KeyboardInterrupt(path)
            return self._write_bytes(path, data)  # what a job does while it ends
        if self.end == "full disk":
            self._write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH), str(path))

    def _read_or_fail(self, uri: str) -> bytes:
        if self.has_ended and self.end == "unreachable":
            raise local_files.failure(uri, OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)))
        return self._read(uri)


@pytest.fixture(scope="module", autouse=True)
def without_pictures() -> Iterator[None]:
    with no_pictures():
        yield


@pytest.fixture(scope="module", autouse=True)
def sentences(two_emotions: Path) -> None:
    """The few sentences of the job `transcripts`."""
    sentences_csv(sentences_of(two_emotions).parent, num_sentences=3)


@pytest.fixture(scope="module")
def model(two_emotions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to score and to predict with."""
    place = tmp_path_factory.mktemp("model")
    job = jobs(place, two_emotions, place)["finetune"]
    job.main(replace(job.config, training=TrainingConfig(num_epochs=1)))
    return place / "run" / "model"


Undisturbed = Callable[[str], tuple[dict[Any, np.ndarray], int]]


@pytest.fixture(scope="module")
def undisturbed(two_emotions: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Of a job its numbers, and how many files it writes."""

    @functools.cache
    def run(name: str) -> tuple[dict[Any, np.ndarray], int]:
        place = tmp_path_factory.mktemp(name.replace(" ", "_"))
        job = jobs(place, two_emotions, model)[name]
        with pytest.MonkeyPatch.context() as patch:
            writes = Writes(patch)
            job.main(job.config)
        return job.numbers(place / "run"), writes.count

    return run


def trusted(place: Path) -> Iterator[Path]:
    """The files that a later attempt takes something from."""
    for path in sorted(place.rglob("*")):
        is_picture = PICTURES & set(path.relative_to(place).parts)
        if path.is_file() and path.stat().st_size and not is_picture and not path.name.endswith(NOT_TRUSTED):
            yield path


def flip_a_bit(place: Path, rng: random.Random) -> str:
    """Damage one file that a later attempt trusts; its name."""
    files = list(trusted(place))
    if not files:
        return "nothing there"
    path = rng.choice(files)
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
        case "other settings" if not job.refuses_other:
            job.main(job.other(job.config))
            return job.config, "ran with other settings"
        case "other settings" if (place / "run" / "manifest.parquet").exists():
            with pytest.raises(UserError, match="holds a run with"):
                job.main(job.other(job.config))
            return job.config, "other settings refused"
        case _:
            return job.config, "nothing"


def run_until_done(job: Job, config: Any, place: Path) -> list[str]:
    """The errors of the attempts before the last; what an error says to delete is deleted."""
    errors: list[str] = []
    while True:
        try:
            job.main(config)
            return errors
        except UserError as error:
            errors.append(str(error))
            assert len(errors) < MAX_ATTEMPTS, errors
            assert "\n" not in str(error) and "run the same command again" in str(error), error
            named = [path for path in trusted(place) if f"{path}" in str(error)]
            if "delete it" in str(error):
                assert named, error
                named[0].unlink()


def disturbed(
    name: str, draw: int, places: tuple[Path, Path, Path], num_writes: int
) -> tuple[Path, str, Job]:
    """The run directory of a job that something happened to, and what."""
    place, two_emotions, model = places
    rng = random.Random(f"{name} {draw}")
    job = jobs(place, two_emotions, model)[name]
    on_ray = draw % 20 == 19
    if on_ray:
        job = replace(job, config=replace(job.config, local=False))
    with pytest.MonkeyPatch.context() as patch:
        writes = Writes(patch)
        writes.end, writes.end_at = rng.choice(ENDS), rng.randint(1, num_writes + 1)
        ended = "came to its end"
        try:
            job.main(job.config)
        except (KeyboardInterrupt, UserError) as error:
            assert writes.has_ended, error
            ended = f"{type(error).__name__}: {error}"
    damage = rng.choice(DAMAGES)
    config, done = disturb(damage, job, place, rng)
    story = f"{name}: {writes.end} at write {writes.end_at} of {num_writes} ({ended}), then {damage} ({done})"
    print(story)
    errors = run_until_done(job, config, place)
    has_encoded_again = on_ray or damage in ("bit", "cache") or "/cache/features/" in ended
    if has_encoded_again and name in ("finetune", "tune_folds", "tune heads", "ensemble"):
        job = replace(job, tolerance=1e-3)  # on other batches, or with another number of threads
    return Path(config.run), f"{story}, {errors}", job


def differences(name: str, draw: int, undisturbed: Undisturbed, places: tuple[Path, Path, Path]) -> list[str]:
    """What a disturbed run that came to its end has other than an undisturbed one, each with what had happened to it."""
    wanted, num_writes = undisturbed(name)
    run, story, job = disturbed(name, draw, places, num_writes)
    numbers = job.numbers(run)
    if numbers.keys() != wanted.keys():
        return [f"{story}: {sorted(map(str, numbers.keys() ^ wanted.keys()))}"]
    return [
        f"{story}, {key}"
        for key, values in wanted.items()
        if not np.allclose(numbers[key], values, rtol=0, atol=job.tolerance)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(NUM_DRAWS))
def test_the_same_command_again_ends_with_the_same_numbers(
    draw: int, undisturbed: Undisturbed, two_emotions: Path, model: Path, tmp_path: Path, ray_session: Any
) -> None:
    assert differences(NAMES[draw % len(NAMES)], draw, undisturbed, (tmp_path, two_emotions, model)) == []


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        pytest.param("extract", 0, marks=pytest.mark.slow),
        pytest.param("evaluate", 1, marks=pytest.mark.slow),
        ("finetune", 2),
    ],
)
def test_a_few_draws(
    name: str, draw: int, undisturbed: Undisturbed, two_emotions: Path, model: Path, tmp_path: Path
) -> None:
    assert differences(name, draw, undisturbed, (tmp_path, two_emotions, model)) == []
