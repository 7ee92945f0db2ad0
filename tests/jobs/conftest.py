"""A corpus of two emotions, a finished search, pictures that are not drawn."""

import shutil
from pathlib import Path

import pytest

from tests.jobs.searches import make_config
from tests.made.pictures import blank_pictures
from w2v2.config.tune_folds import SearchConfig
from w2v2.jobs import tune_folds


@pytest.fixture(scope="session")
def two_emotions(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the happy and the angry clips of `corpus`: 48 of all 24 actors."""
    folder = tmp_path_factory.mktemp("two_emotions")
    for path in sorted(corpus.rglob("*.wav")):
        if path.stem.split("-")[2] in ("03", "05"):
            (folder / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, folder / path.parent.name / path.name)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, two_emotions, ray_session):
    """A finished run of two trials, its config and its metrics."""
    tmp_path = tmp_path_factory.mktemp("finished")
    config = make_config(
        tmp_path, two_emotions, search=SearchConfig(num_trials=2, max_concurrent_trials=2, pruning="none")
    )
    return tmp_path / "run", config, tune_folds.main(config)


@pytest.fixture
def pictures():
    """What a test asks for whose jobs shall draw their pictures."""


@pytest.fixture(autouse=True)
def _no_pictures_of_a_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Pictures of the runs that a test makes for itself are empty.

    Those of the finished runs that several tests share are drawn, as these are made before this is; tests/reports
    draws each kind.
    """
    if "pictures" not in request.fixturenames:
        blank_pictures(monkeypatch)
