"""Encoders that are not wav2vec2's, through whole jobs: cached, their last layers trained, saved, and predicted with."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import Wav2Vec2FeatureExtractor

import w2v2
from tests.models.test_squeezed import make_model
from w2v2.config.data import CacheConfig, DataConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, OptimConfig, TrainingConfig
from w2v2.jobs import finetune


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["group", "d"])
def test_a_squeezed_encoder_is_fine_tuned_and_predicts(kind: str, corpus: Path, tmp_path: Path) -> None:
    make_model(kind).save_pretrained(tmp_path / "encoder")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "encoder")
    config = FinetuneConfig(
        run=str(tmp_path / "run"),
        local=True,
        data=DataConfig(uri=str(corpus)),
        cache=CacheConfig(uri=str(tmp_path / "cache")),
        encoder=EncoderConfig(name=str(tmp_path / "encoder"), train="last", num_last_layers=1),
        optim=OptimConfig(learning_rate=3e-3),
        training=TrainingConfig(num_epochs=2),
    )
    metrics = finetune.main(config)
    assert metrics["trunk"]["clip_forwards"] == metrics["trunk"]["num_clips"] > 0
    again = finetune.main(replace(config, run=str(tmp_path / "again")))  # every trunk output is in the cache
    assert again["trunk"]["clip_forwards"] == 0
    assert again["model"]["digest"] == metrics["model"]["digest"]
    rows = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()[:3]
    clips = {row["clip_id"]: row for row in pq.read_table(tmp_path / "run" / "manifest.parquet").to_pylist()}
    predicted = w2v2.predict(str(tmp_path / "run" / "model"), [clips[row["clip_id"]]["uri"] for row in rows])
    for row, (_, prediction) in zip(rows, predicted.iterrows(), strict=True):
        for name in (name for name in row if name.startswith("prob_")):
            assert prediction[name] == pytest.approx(row[name], abs=1e-5)
