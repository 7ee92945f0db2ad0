"""--track wandb, where wandb is installed: offline by default, one id for all sessions, the numbers of metrics.json."""

import json
from pathlib import Path

import pytest

from w2v2.config.data import CacheConfig, DataConfig
from w2v2.config.model import EncoderConfig, TrainingConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.jobs import tune_folds

pytest.importorskip("wandb")


@pytest.mark.slow
def test_a_search_is_in_an_offline_run(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    config = TuneFoldsConfig(
        run=str(tmp_path / "run"), local=True, track="wandb", data=DataConfig(uri=str(corpus)),
        cache=CacheConfig(uri=str(tmp_path / "cache")), encoder=EncoderConfig(train="head"),
        training=TrainingConfig(num_epochs=1), search=SearchConfig(num_trials=1, pruning="none"),
    )  # fmt: skip
    metrics = tune_folds.main(config)
    run_id = json.loads((tmp_path / "run" / "tracker.json").read_text())["wandb"]["ids"]["run"]
    tune_folds.main(config)
    assert json.loads((tmp_path / "run" / "tracker.json").read_text())["wandb"]["ids"]["run"] == run_id
    folders = sorted((tmp_path / "wandb").glob(f"offline-run-*-{run_id}"))
    assert folders
    body = b"".join(path.read_bytes() for folder in folders for path in folder.glob("*.wandb"))
    assert (
        b"estimate/uar" in body and repr(metrics["estimate"]["metrics"]["uar"]["value"]).encode()[:10] in body
    )
