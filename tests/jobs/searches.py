"""Small searches of these tests."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from w2v2.config.data import CacheConfig, DataConfig
from w2v2.config.model import EncoderConfig, OptimConfig, TrainingConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig


def make_config(tmp_path: Path, corpus: Path, **changes) -> TuneFoldsConfig:
    base = TuneFoldsConfig(
        run=str(tmp_path / "run"),
        data=DataConfig(uri=str(corpus)),
        cache=CacheConfig(uri=str(tmp_path / "cache")),
        encoder=EncoderConfig(train="last", num_last_layers=1),
        optim=OptimConfig(learning_rate=5e-3),
        training=TrainingConfig(num_epochs=2),
        search=SearchConfig(num_trials=2, max_concurrent_trials=1, pruning="none"),
    )
    return replace(base, **changes)


def table(run: Path, name: str):
    return pq.read_table(Path(run) / f"{name}.parquet")
