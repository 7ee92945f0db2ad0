"""Pages of searches with one trial, without defined scores, and with a file that is missing."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.made.pages import visible_text
from tests.made.tune_run import CLASSES, without_estimate, write_run
from w2v2.reports import tune_page
from w2v2.storage.files import StorageError


def test_run_of_one_trial(tmp_path: Path) -> None:
    def change(scores: dict[str, Any]) -> None:
        without_estimate(scores)
        scores["selection"] |= {"nested": None}

    folder = write_run(tmp_path / "one", states=["COMPLETE"], best_trial=0, change=change)
    text = visible_text(Path(tune_page.write_tune_report(str(folder))).read_text())
    assert "UAR, selected on the other folds" not in text
    assert "The score selected on the other folds is undefined: fewer than two trials are complete." in text
    assert "No other trial is complete, so the best one was compared with none." in text
    assert "Hyperparameter importance is undefined: it needs 5 complete trials, there are 1." in text
    assert "Pruning saved 0 of 6 folds" in text
    assert not (folder / "plots" / "importance.png").exists()


def test_metrics_that_are_null_are_undefined_with_the_reason(tmp_path: Path) -> None:
    def change(scores: dict[str, Any]) -> None:
        without_estimate(scores)
        nothing = dict.fromkeys(("uar", "accuracy", "macro_f1"))
        pooled = {"num_clips": 0, "intervals": nothing, "recall": dict.fromkeys(CLASSES)} | nothing
        pooled |= {
            "never_predicted": CLASSES,
            "absent": ["calm"],
            "confusion": np.zeros((8, 8), int).tolist(),
        }
        scores |= {"pooled": pooled, "chance_uar": None}
        scores["folds"] = {name: {"mean": None, "std": math.nan, "values": [None] * 6} for name in nothing}
        scores["by_speaker"] = {"01": {"num_clips": 0, "accuracy": None, "uar": None}}
        scores["selection"] |= {"num_complete": 1, "best": None, "nested": None}

    states = ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    folder = write_run(tmp_path / "null", states=states, best_trial=0, change=change)
    text = visible_text(Path(tune_page.write_tune_report(str(folder))).read_text())
    assert "undefined UAR, best trial; 95% interval undefined" in text
    assert "chance undefined (no clip)" in text
    assert "UAR by speaker is undefined: no clip was held out." in text
    assert "Recall is undefined for calm: no held-out clip has the class" in text
    assert "The score selected on the other folds is undefined: fewer than two trials are complete." in text
    assert "mean undefined undefined undefined" in text
    assert "nan" not in text.lower().split() and "None" not in text


def test_missing_table_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "curves.parquet").unlink()
    with pytest.raises(StorageError, match=r"curves\.parquet"):
        tune_page.write_tune_report(str(folder))
