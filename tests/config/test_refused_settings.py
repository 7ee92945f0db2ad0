"""What each class of settings refuses, and that each is frozen and explained."""

import re
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest

from w2v2.config import (
    baseline,
    extract_embeddings,
    finetune,
    job,
    model,
    pretrain,
    resources,
    text,
    tune_folds,
)
from w2v2.config import data as config
from w2v2.config.data import AudioConfig, DataConfig, FoldsConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.config.resources import InferenceResources, TrainingResources
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError

REFUSED = [
    (DataConfig, dict(uri=""), r"^data\.uri is empty: give a folder, a gs:// prefix, a table of clips \(\.csv, \.parquet, \.xlsx\) or 'demo'$"),
    (DataConfig, dict(max_reject_fraction=1.1), r"^data\.max_reject_fraction must be in \[0, 1\], got 1\.1$"),
    (DataConfig, dict(num_readers=0), r"^data\.num_readers must be at least 1, got 0$"),
    (AudioConfig, dict(trim_db=-1.0), r"^audio\.trim_db must be at least 0, got -1\.0$"),
    (AudioConfig, dict(crop_s=-1.0), r"^audio\.crop_s must be at least 0, got -1\.0$"),
    (AudioConfig, dict(min_s=0.02), r"^audio\.min_s must be at least 0\.025, got 0\.02$"),
    (AudioConfig, dict(max_s=0.1), r"^audio\.max_s must be in \(audio\.min_s=0\.1, 3600\], got 0\.1$"),
    (AudioConfig, dict(max_s=3601.0), r"^audio\.max_s must be in .* got 3601$"),
    (AudioConfig, dict(crop_s=0.05), r"^audio\.crop_s=0\.05 is shorter than audio\.min_s=0\.1: no clip would"),
    (FoldsConfig, dict(num_folds=1, kind="grouped"), r"^folds\.num_folds must be at least 2, got 1$"),
    (FoldsConfig, dict(num_folds=5), r"^folds\.num_folds must be 6 for the published folds, got 5; use --folds"),
    (EncoderConfig, dict(name=""), r"^encoder\.name is empty: give a hub name, a folder, a gs:// folder or"),
    (EncoderConfig, dict(num_last_layers=0), r"^encoder\.num_last_layers must be at least 1, got 0$"),
    (EncoderConfig, dict(layer=-1), r"^encoder\.layer must be at least 0, got -1$"),
    (HeadConfig, dict(dropout=1.0), r"^head\.dropout must be in \[0, 1\), got 1\.0$"),
    (HeadConfig, dict(widths=(3, 0)), r"^head\.widths must be positive, got \[3, 0\]$"),
    (OptimConfig, dict(learning_rate=-1e-3), r"^optim\.learning_rate must be positive, got -0\.001$"),
    (OptimConfig, dict(learning_rate=float("nan")), r"^optim\.learning_rate must be positive, got nan$"),
    (OptimConfig, dict(eps=-1e-8), r"^optim\.eps must be positive, got -1e-08$"),
    (OptimConfig, dict(weight_decay=-0.1), r"^optim\.weight_decay must be at least 0, got -0\.1$"),
    (OptimConfig, dict(clip_norm=-0.1), r"^optim\.clip_norm must be at least 0, got -0\.1$"),
    (OptimConfig, dict(batch_size=0), r"^optim\.batch_size must be at least 1, got 0$"),
    (OptimConfig, dict(late_batch_factor=0), r"^optim\.late_batch_factor must be at least 1, got 0$"),
    (OptimConfig, dict(accumulation_steps=0), r"^optim\.accumulation_steps must be at least 1, got 0$"),
    (OptimConfig, dict(beta1=1.0), r"^optim\.beta1 must be in \[0, 1\), got 1\.0$"),
    (OptimConfig, dict(beta2=-0.1), r"^optim\.beta2 must be in \[0, 1\), got -0\.1$"),
    (OptimConfig, dict(warmup_fraction=1.0), r"^optim\.warmup_fraction must be in \[0, 1\), got 1\.0$"),
    (OptimConfig, dict(schedule="late_decay", warmup_fraction=0.8), r"must be at most 0\.7 with late_decay, got 0\.8$"),
    (TrainingConfig, dict(num_epochs=0), r"^training\.num_epochs must be at least 1, got 0$"),
    (TrainingConfig, dict(label_smoothing=1.0), r"^training\.label_smoothing must be in \[0, 1\), got 1\.0$"),
    (TrainingConfig, dict(mask_time_fraction=1.0), r"^training\.mask_time_fraction must be in \[0, 1\)"),
    (TrainingConfig, dict(mask_feature_fraction=-0.5), r"^training\.mask_feature_fraction must be in \[0, 1\)"),
    (SearchConfig, dict(space={"optim.eps": Dimension(choices=(1, 2), low=1.0)}), r"^search\.space: optim\.eps has choices and low"),
    (SearchConfig, dict(space={"optim.eps": Dimension(low=2.0, high=2.0)}), r"low of optim\.eps must be below its high, got low=2 high=2$"),
    (SearchConfig, dict(space={"optim.eps": Dimension(high=2.0, log=True)}), r"low of optim\.eps must be positive on a log scale, got 0$"),
    (SearchConfig, dict(num_trials=0), r"^search\.num_trials must be at least 1, got 0$"),
    (SearchConfig, dict(num_startup_trials=0), r"^search\.num_startup_trials must be at least 1, got 0$"),
    (TrainingResources, dict(num_workers=0), r"^resources\.num_workers must be at least 1, got 0$"),
    (TuneFoldsConfig, dict(resources=TrainingResources(num_workers=2, min_workers=1)), r"^resources\.min_workers is for finetune and pretrain"),
    (TrainingResources, dict(num_workers=2, min_workers=3), r"^resources\.min_workers must be at most resources\.num_workers=2, got 3$"),
    (TrainingResources, dict(min_workers=-1), r"^resources\.min_workers must be at least 0, got -1$"),
    (SearchConfig, dict(max_concurrent_trials=-1), r"^search\.max_concurrent_trials must be at least 0, got -1$"),
    (TrainingResources, dict(gpus_per_worker=-1.0), r"^resources\.gpus_per_worker must be at least 0, got -1\.0$"),
    (TrainingResources, dict(cpus_per_worker=0.0), r"^resources\.cpus_per_worker must be positive, got 0\.0$"),
    (VectorConfig, dict(name=""), r"^encoder\.name is empty: give a hub name, a folder, a gs:// folder or"),
    (VectorConfig, dict(batch_s=-1.0), r"^encoder\.batch_s must be at least 0, got -1\.0$"),
    (VectorConfig, dict(layers=-1), r"^encoder\.layers must be last, all, or different numbers .* got \[-1\]$"),
    (VectorConfig, dict(layers=()), r"^encoder\.layers must be last, all, or different numbers .* got \[\]$"),
    (VectorConfig, dict(layers=(2, 2)), r"^encoder\.layers must be last, all, or different numbers .* \[2, 2\]$"),
    (InferenceResources, dict(num_workers=-1), r"^resources\.num_workers must be at least 0, got -1$"),
    (InferenceResources, dict(clips_per_part=-1), r"^resources\.clips_per_part must be at least 0, got -1$"),
    (InferenceResources, dict(cpus_per_worker=0.0), r"^resources\.cpus_per_worker must be positive, got 0\.0$"),
    (InferenceResources, dict(gpus_per_worker=-1.0), r"^resources\.gpus_per_worker must be positive, got -1\.0$"),
    (ExtractConfig, dict(window_s=0.05), r"^window_s must be 0 or at least audio\.min_s=0\.1, got 0\.05$"),
    (ExtractConfig, dict(window_s=1.0, hop_s=1.5), r"^hop_s must be in \(0, window_s=1\], got 1\.5$"),
    (ExtractConfig, dict(hop_s=1.0), r"^hop_s is for windows, got 1 without window_s: set window_s, or leave out hop_s$"),
    (ExtractConfig, dict(window_s=2.0, hop_s=3.0), r"^hop_s must be in \(0, window_s=2\], got 3$"),
]  # fmt: skip


@pytest.mark.parametrize("config_class, wrong, message", REFUSED, ids=lambda value: str(value)[:60])
def test_wrong_values_are_refused_by_name(config_class, wrong, message):
    with pytest.raises(UserError, match=message):
        config_class(**wrong)


@pytest.mark.parametrize(
    "path, message",
    [
        ("data.uri", r"'data\.uri' is not a field that trials can vary; use encoder\., lora\., head\., optim\. or training"),
        ("learning_rate", r"'learning_rate' is not a field that trials can vary"),
        ("optim.lr", r"'optim\.lr' is not a field; optim has learning_rate, layer_decay, weight_decay, beta1"),
    ],
)  # fmt: skip
def test_only_existing_fields_can_be_searched(path, message):
    with pytest.raises(UserError, match=message):
        TuneFoldsConfig(search=SearchConfig(space={path: Dimension(low=1.0, high=2.0)}))


@pytest.mark.parametrize(
    "module",
    [baseline, config, extract_embeddings, finetune, job, model, pretrain, resources, text, tune_folds],
)
def test_all_settings_are_frozen_keyword_only_and_explained(module):
    classes = [v for v in vars(module).values() if is_dataclass(v) and v.__module__ == module.__name__]
    assert classes
    for config_class in classes:
        source = re.split(rf"class {config_class.__name__}\b.*:", Path(module.__file__).read_text())[1]
        assert config_class.__dataclass_params__.frozen
        for field in fields(config_class):
            assert field.kw_only
            if is_dataclass(field.type) or field.name not in config_class.__annotations__:
                continue  # a section or an inherited field: its class explains it
            text = source.split(f"    {field.name}: ")[1].split("\n", 1)[1]
            assert text.lstrip().startswith('"""'), f"{config_class.__name__}.{field.name} has no docstring"
    with pytest.raises(FrozenInstanceError):
        TuneFoldsConfig().optim.learning_rate = 1.0
