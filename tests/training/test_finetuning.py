"""A whole fine-tuning in one process without Ray, and the same one on Ray's workers."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from transformers import AutoModel

from tests import ROOT
from tests.made.corpora import deam_corpus, labelled_csv
from w2v2.config.data import CacheConfig, DataConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, HeadConfig, LoraConfig, OptimConfig, TaskConfig, TrainingConfig
from w2v2.data import manifest, splits, usable_clips
from w2v2.data.targets import output_groups
from w2v2.errors import UserError
from w2v2.features.cache import FeatureCache
from w2v2.features.preparation import prepare
from w2v2.features.requests import AudioIndex
from w2v2.features.trunk_features import TrunkFeatures, trunk_key
from w2v2.models.model_info import read_card
from w2v2.models.pretrained import loaded_encoder, weights_digest
from w2v2.models.saved_model import load_model
from w2v2.training.finetune_plan import FinetunePlan, planned_clips
from w2v2.training.finetuning import FinetuneResult, finetune


def make_config(corpus: Path, folder: Path, run: str, **changes) -> FinetuneConfig:
    """A small fine-tuning with dropout, whose random numbers must be the same wherever it runs."""
    config = FinetuneConfig(
        run=str(folder / run),
        data=DataConfig(uri=str(corpus)),
        cache=CacheConfig(uri=str(folder / "cache")),
        encoder=EncoderConfig(train="last", num_last_layers=1),
        head=HeadConfig(widths=(8,), dropout=0.2),
        optim=OptimConfig(learning_rate=5e-3, batch_size=4),
        training=TrainingConfig(num_epochs=2),
    )
    return replace(config, **changes)


def make_plan(config: FinetuneConfig) -> FinetunePlan:
    """Read the clips, compute their frozen features in this process, and split them."""
    corpus = manifest.read(config.data, task=config.task.kind)
    encoder, digest = loaded_encoder(config.encoder, config.seed)
    key = trunk_key(encoder, digest, cache=config.cache, precision="float32")
    requests = AudioIndex(config.data, config.audio, config.cache).requests(corpus.clips)
    trunk = TrunkFeatures(encoder=encoder, cache=FeatureCache(config.cache, key))
    prepared = prepare(requests, kinds=[trunk], audio=config.audio, num_readers=4)
    corpus = usable_clips.with_usable_audio(config.run, corpus, prepared, max_reject_fraction=0.0)
    clips = splits.assign(corpus.clips, config.split, config.folds, need_val=False)
    groups = output_groups(corpus, config.task.kind)
    clips = planned_clips(clips, is_divided=config.ensemble == "folds")
    return FinetunePlan(config=config, groups=groups, key=key, clips=clips, card={})


def weights(config: FinetuneConfig) -> dict[str, torch.Tensor]:
    """The tensors of the saved model, by file and name."""
    files = sorted(Path(config.run, "model").glob("*.safetensors"))
    return {f"{f.name}/{name}": t for f in files for name, t in safetensors.torch.load_file(f).items()}


def assert_same(one: FinetuneResult, other: FinetuneResult) -> None:
    assert one.digest == other.digest and one.curve == other.curve
    np.testing.assert_array_equal(one.values, other.values)


WITHOUT_RAY = """
import sys
from pathlib import Path
from tests.training.test_finetuning import make_config, make_plan
from w2v2.training.finetuning import finetune

finetune(make_plan(make_config(Path(sys.argv[1]), Path(sys.argv[2]), "without_ray")))
print("ray" in sys.modules)
"""


def test_without_ray_and_on_ray_give_the_same_weights_bit_for_bit(tmp_path: Path, ray_session) -> None:
    from w2v2.cluster import connection
    from w2v2.cluster.finetune import finetune_on

    corpus = labelled_csv(tmp_path / "data")
    command = [sys.executable, "-c", WITHOUT_RAY, str(corpus), str(tmp_path)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False"]
    plan = make_plan(make_config(corpus, tmp_path, "ray"))
    on_ray = finetune_on(connection, plan, gpus=0)
    alone, other = weights(make_config(corpus, tmp_path, "without_ray")), weights(plan.config)
    assert alone and alone.keys() == other.keys()
    for name, tensor in alone.items():
        assert torch.equal(tensor, other[name]), name
    start = loaded_encoder(plan.config.encoder, plan.config.seed)[0].state_dict()
    trained = load_model(f"{plan.config.run}/model").model.encoder.state_dict()
    assert any(not torch.equal(tensor, trained[name]) for name, tensor in start.items())
    assert_same(finetune(make_plan(make_config(corpus, tmp_path, "here"))), on_ray)


def test_resumed_from_any_step_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    corpus = labelled_csv(tmp_path / "data")
    whole = finetune(make_plan(make_config(corpus, tmp_path, "whole")))
    plan = make_plan(make_config(corpus, tmp_path, "stopped"))
    plan = replace(
        plan, config=replace(plan.config, checkpoint=replace(plan.config.checkpoint, every_steps=1))
    )

    def stop(done: int, total: int, point: object) -> None:
        assert 0 < done < total
        raise InterruptedError

    with pytest.raises(InterruptedError):
        finetune(plan, on_epoch=stop)
    assert not Path(plan.config.run, "model").exists()
    for path in sorted(Path(plan.config.run, "checkpoints").iterdir())[-2:]:
        path.unlink()  # the newest checkpoint: resume within the first epoch
    assert list(Path(plan.config.run, "checkpoints").iterdir())
    epochs: list[int] = []
    assert_same(finetune(plan, on_epoch=lambda done, total, point: epochs.append(point.epoch)), whole)
    assert epochs == [1, 2]


def test_with_low_rank_updates_the_folder_is_of_plain_weights_and_the_encoder_is_as_it_was(
    tmp_path: Path,
) -> None:
    config = make_config(
        labelled_csv(tmp_path / "data"),
        tmp_path,
        "run",
        encoder=EncoderConfig(train="last", num_last_layers=2, pooling="attentive_statistics"),
        lora=LoraConfig(rank=3, projections=("query", "value", "feed_forward")),
        optim=OptimConfig(learning_rate=5e-3, batch_size=4, layer_decay=0.8),
        training=TrainingConfig(num_epochs=2, mixup_alpha=0.3),
    )
    shared = loaded_encoder(config.encoder, config.seed)[0].model
    before = weights_digest(shared)
    trained = finetune(make_plan(config))
    assert weights_digest(shared) == before
    opened = AutoModel.from_pretrained(f"{config.run}/model")
    assert opened.state_dict().keys() == shared.state_dict().keys()
    assert load_model(f"{config.run}/model").digest == trained.digest
    of_layer = 3 * (2 * (48 + 48) + 2 * (48 + 96))
    head = (48 + 1) * 128 + 128 + (2 * 48 + 1) * 8 + (8 + 1) * 3
    assert trained.num_trained_parameters == 2 * of_layer + head
    assert_same(finetune(make_plan(config)), trained)  # from its last checkpoint


def test_midpoints_are_the_means_of_the_training_targets(tmp_path: Path) -> None:
    corpus = deam_corpus(tmp_path / "data")
    config = make_config(corpus, tmp_path, "run", task=TaskConfig(kind="regression"))
    config = replace(config, data=replace(config.data, layout="deam"), encoder=EncoderConfig(train="head"))
    plan = make_plan(config)
    rows = plan.clips.to_pandas()
    train = rows[rows["split"] == "train"]
    expected = [train[f"target_{name}"].astype("float32").astype("float64").mean() for name in plan.names]
    assert plan.midpoints == pytest.approx(expected, rel=1e-12) and len(expected) == 2
    finetune(plan)
    assert read_card(f"{config.run}/model")["midpoints"] == plan.midpoints
    assert make_plan(make_config(labelled_csv(tmp_path / "csv"), tmp_path, "classes")).midpoints is None


def test_a_loss_that_is_not_finite_is_one_sentence(tmp_path: Path) -> None:
    config = make_config(
        labelled_csv(tmp_path / "data"), tmp_path, "run", optim=OptimConfig(learning_rate=1e30)
    )
    with pytest.raises(UserError, match=r"^the training diverged: .*; lower --optim.learning_rate"):
        finetune(make_plan(config))


def test_a_target_that_no_training_clip_has_leaves_no_midpoints() -> None:
    config = FinetuneConfig(task=TaskConfig(kind="regression"))
    clips = pa.table(
        {"split": ["train", "train", "test"], "target_a": [1.0, None, 9.0], "target_b": [2.0, 4.0, 0.0]}
    )
    plan = FinetunePlan(config=config, groups=(("a",), ("b",)), key="", clips=clips, card={})
    assert plan.midpoints == [1.0, 3.0]
    lacking = clips.set_column(1, "target_a", pa.array([None, None, 9.0], pa.float64()))
    assert replace(plan, clips=lacking).midpoints is None


def test_a_plan_of_many_clips_is_ninety_bytes_for_each() -> None:
    def size(num: int) -> int:
        numbers = np.arange(num)
        clips = pa.table(
            {
                "clip_id": [f"corpus/session/recording-{n:08d}.wav" for n in numbers],
                "uri": [f"gs://bucket/corpus/session/recording-{n:08d}.wav" for n in numbers],
                "speaker": [f"speaker-{n // 10:06d}" for n in numbers],
                "split": ["train", "test"] * (num // 2),
                "label": ["calm", "happy", "angry", "sad"] * (num // 4),
                "audio_digest": [f"{n:064x}" for n in numbers],
                "num_samples": numbers,
                "snr_db": numbers / 3,
            }
        )
        plan = FinetunePlan(
            config=FinetuneConfig(),
            groups=(("angry", "calm", "happy", "sad"),),
            key="pooled",
            clips=planned_clips(clips, is_divided=False),
            card={},
        )
        assert plan.rows("train").tolist() == list(range(0, num, 2))
        assert plan.clips["label"].to_pylist() == clips["label"].to_pylist()
        return len(pickle.dumps(plan))

    # The digest of the audio takes 68 of them, the name of a speaker a tenth of 30.
    assert (size(40_000) - size(20_000)) / 20_000 < 92
