"""Learning rates for each kind of training: a head, the built-in encoder, low-rank updates, or layers of a checkpoint.

A setting `optim.learning_rate` of 0 is left open: `with_learning_rate` fills in the rate of the encoder. The rates are used
in training/optimizer.py, which gives each parameter its own, and training/trainer.py, which sets them at each step.
"""

import json
import logging
from dataclasses import dataclass, replace
from typing import TypeVar

from w2v2.config.data import TaskKind
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, LoraConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.models.fold_encoders import model_of_fold
from w2v2.models.pretrained_name import local_path
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)

C = TypeVar("C", FinetuneConfig, TuneFoldsConfig)

RATE_SETTINGS = frozenset({"encoder.name", "encoder.train", "lora.rank"})
"""The settings that the right learning rate depends on."""


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Peak learning rates of AdamW for one kind of training."""

    default: float
    low: float
    """The lowest learning rate of a search."""
    high: float
    """The highest learning rate of a search."""
    trained: str
    """The trained part, in a few words."""


def learning_rates(encoder: EncoderConfig, lora: LoraConfig, kind: TaskKind) -> LearningRates:
    """The learning rates for a head on a frozen encoder, for 'tiny', for LoRA, or for layers of a checkpoint.

    3e-5 is the rate of wav2vec 2.0's base model on 100 hours of labelled speech (fairseq's base_100h.yaml); low-rank
    updates take about ten times the rate of whole layers (Hu et al. 2021, arXiv:2106.09685, appendix D).
    """
    if encoder.train == "head":
        return LearningRates(default=1.5e-3, low=3e-4, high=3e-2, trained="a head on a frozen encoder")
    if is_tiny(encoder.name):
        default, low, high = (4e-3, 1e-3, 1e-2) if kind == "transcript" else (1.5e-3, 5e-4, 4e-3)
        return LearningRates(default=default, low=low, high=high, trained="the small built-in encoder")
    if lora.rank:
        return LearningRates(default=3e-4, low=1e-4, high=2e-3, trained="low-rank updates of a checkpoint")
    return LearningRates(default=3e-5, low=5e-6, high=5e-4, trained="layers of a pretrained encoder")


def with_learning_rate(config: C) -> C:
    """The settings with the learning rate that suits them, where optim.learning_rate is left open (0)."""
    if config.optim.learning_rate:
        return config
    rate = learning_rates(config.encoder, config.lora, config.task.kind).default
    return replace(config, optim=replace(config.optim, learning_rate=rate))


def log_learning_rate(given: C, config: C) -> None:
    """Log the learning rate of config, in which with_learning_rate has filled in an open rate.

    Warns where layers of a checkpoint would be trained at a rate that a search never tries for them.
    """
    rate = config.optim.learning_rate
    suitable = learning_rates(config.encoder, config.lora, config.task.kind)
    if not rate:
        logger.info("learning rate: chosen by the encoder of each trial; --optim.learning_rate sets another")
    elif not given.optim.learning_rate:
        logger.info(
            "learning rate: %g, which suits %s; --optim.learning_rate sets another", rate, suitable.trained
        )
    elif _are_layers_of_a_checkpoint(config) and rate > suitable.high:
        logger.warning(
            "optim.learning_rate is %g, and pretrained encoders want 1e-5 to 1e-4: more destroys what they have learned; "
            "leave it out for %g, which suits the encoder",
            rate,
            suitable.default,
        )


def _are_layers_of_a_checkpoint(config: FinetuneConfig | TuneFoldsConfig) -> bool:
    return config.encoder.train != "head" and not config.lora.rank and not is_tiny(config.encoder.name)


def is_tiny(name: str) -> bool:
    """Whether a name is 'tiny', or a folder (for each fold, too) that `w2v2 pretrain` or `finetune` has made of it."""
    if name == "tiny":
        return True
    if not storage.is_remote(name) and not local_path(name).is_dir():
        return False  # a hub name, or no folder
    folder = name if storage.is_remote(name) else str(local_path(name))
    folders = (folder, model_of_fold(folder, 0))
    return any(
        _origin(storage.join(place, file), *path) == "tiny"
        for place in folders
        for file, path in (("pretraining.json", ("encoder",)), ("w2v2.json", ("info", "encoder")))
    )


def _origin(uri: str, *path: str) -> str:
    """The name of the encoder that training of a folder's weights began with, from one of its files; '' where the file does not tell.

    Raises StorageError where the file exists and cannot be read: the rate could be wrong.
    """
    try:
        text = storage.read_text(uri)
    except (storage.NotFoundError, storage.DamagedError):
        return ""
    try:
        about = json.loads(text)
        for section in path:
            about = about[section]
        return str(about["name"])
    except (ValueError, KeyError, TypeError):
        return ""
