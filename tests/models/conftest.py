"""Folders of a small saved encoder."""

import shutil
from pathlib import Path

import pytest

from tests.made.encoders import random_model


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    random_model().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of a good folder, to be broken."""
    return Path(shutil.copytree(saved, tmp_path / "model"))
