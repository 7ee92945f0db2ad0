"""The notebook recipe runs as it is, on the run of a small training."""

import runpy
from pathlib import Path

import numpy as np

from tests import ROOT
from w2v2.command import main


def test_the_notebook_runs_from_its_first_cell_to_its_last(
    two_emotions: Path, tmp_path: Path, monkeypatch
) -> None:
    flags = [
        "--training.num_epochs",
        "1",
        "--cache",
        str(tmp_path / "cache"),
        "--local",
        "true",
        "--encoder.train",
        "head",
    ]
    assert main(["finetune", "--data", str(two_emotions), "--run", str(tmp_path / "run"), *flags]) == 0
    monkeypatch.setenv("RUN", str(tmp_path / "run"))
    cells = runpy.run_path(str(ROOT / "jobs" / "recipes" / "notebook.py"))
    assert len(cells["predicted"]) == 3 and len(cells["windows"]) == 7
    np.testing.assert_allclose(np.diag(cells["alike"]), 1, atol=1e-6)
    assert cells["alike"][0, 1] > cells["alike"][0, 2]  # 120 Hz is more like 130 Hz than 400 Hz
    assert cells["confusion"].to_numpy().sum() == len(cells["test"]) > 0
