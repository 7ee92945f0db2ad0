"""One encoder pre-trained from features in the cache: training, checkpoints, and the model folder at the end."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from w2v2.config.pretrain import PretrainConfig
from w2v2.errors import UserError
from w2v2.features.batches import Features
from w2v2.features.cache import FeatureCache
from w2v2.features.packed_vectors import open_features
from w2v2.json_types import Json
from w2v2.measurements import measured
from w2v2.models.pretrained_folder import save_pretrained
from w2v2.models.pretraining import PretrainingModel, open_model
from w2v2.progress import Progress
from w2v2.storage import files as storage
from w2v2.training.checkpoint import train_resumed
from w2v2.training.clusters import Clusters, ClusterTargets, FrameFeatures, find_clusters
from w2v2.training.pretrain_position import Row
from w2v2.training.pretrainer import CollapseError, Pretrainer
from w2v2.training.pretraining_batches import PretrainClips, Totals
from w2v2.training.process_group import ProcessGroup

logger = logging.getLogger(__name__)

NAME = "pre-training"
"""The name of a training in the log; trainings for a fold have other names."""

OnEpoch = Callable[[int, int, list[Row]], None]
"""Called after each epoch with the steps done, the steps of the whole training, and the epoch's rows of the curve."""


@dataclass(frozen=True, kw_only=True)
class PretrainPlan:
    """The plan that every process of a pre-training needs: settings, clips with their splits, and the place of their features."""

    config: PretrainConfig
    """The settings, with learning rate and batch filled in (config.with_recipe)."""
    key: str
    """The folder of the features in the cache."""
    target_key: str = ""
    """The folder of the features that are clustered, where training uses other features."""
    clips: pa.Table
    """clip_id, speaker, split (train or val), audio_digest and num_samples of every clip."""
    card: dict[str, Json]
    """Entries of the model card in addition to the curve's last rows."""

    def features(self, key: str, split: str) -> Features:
        """The features of the clips of a split, of a folder in the cache."""
        digests = self.rows(split)["audio_digest"].to_pylist()
        num_at_once = self.config.data.num_readers
        return open_features(FeatureCache(self.config.cache, key), digests, num_at_once=num_at_once)

    def rows(self, split: str) -> pa.Table:
        """The rows of the clips of a split."""
        return self.clips.filter(pc.equal(self.clips["split"], split))


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """The result of a pre-training; the model itself is in the model folder."""

    curve: list[Row]
    """One row per epoch and split."""
    steps: list[Row]
    """One row every few steps."""
    code_usage: pa.Table
    """group, code, split and the fraction of masked frames with this code, by the weights at the end."""
    collapsed: str
    """Why the run counts as collapsed; '' if it does not."""
    new_weights: tuple[str, ...]
    """Parts that the checkpoint lacked."""
    num_steps: int


def pretrain(
    plan: PretrainPlan,
    *,
    group: ProcessGroup | None = None,
    on_epoch: OnEpoch = lambda done, total, rows: None,
) -> PretrainResult:
    """The curves, once the model has been pre-trained in this process and `<run>/model` written.

    Resumes from the newest checkpoint below `<run>/checkpoints`. All processes of `group` call this together;
    only the first writes files and calls `on_epoch`. The features must be in the cache.

    Raises UserError when the loss is not finite, when training.on_collapse=stop and the model collapses, when the
    GPU's memory does not suffice, or when the checkpoints were written by another number of processes.
    """
    group = group or ProcessGroup()
    torch.set_num_threads(max(1, int(plan.config.resources.cpus_per_worker)))
    opened = open_model(plan.config)
    clusters = _clusters(plan, opened.model, group) if plan.config.has_clusters else None
    val = _clips(plan, "val", opened.model, clusters) if len(plan.rows("val")) else None
    train = _clips(plan, "train", opened.model, clusters)
    trainer = Pretrainer(opened.model, train, plan.config, val=val, group=group)
    _train(plan.config, trainer, on_epoch)
    usage = _code_usage(trainer)
    if group.rank == 0:
        card = plan.card | {"new_weights": list(opened.new_weights), "last": trainer.position.curve[-2:]}
        save_pretrained(
            storage.join(plan.config.run, "model"),
            opened.model,
            card=card,
            clips=plan.clips,
            start=plan.config.encoder.name if not plan.config.encoder.is_random else "",
        )
    at = trainer.position
    return PretrainResult(
        curve=at.curve,
        steps=at.steps,
        code_usage=usage,
        collapsed=at.collapsed,
        new_weights=opened.new_weights,
        num_steps=at.step,
    )


def _clips(
    plan: PretrainPlan, split: str, model: PretrainingModel, clusters: Clusters | None
) -> PretrainClips:
    rows = plan.rows(split)
    return PretrainClips(
        features=plan.features(plan.key, split),
        num_samples=np.asarray(rows["num_samples"]),
        digests=rows["audio_digest"].to_pylist(),
        clusters=None if clusters is None else ClusterTargets(_frames(plan, split, model), clusters),
    )


def _frames(plan: PretrainPlan, split: str, model: PretrainingModel) -> FrameFeatures:
    """The frames of the clips of a split that are clustered."""
    return FrameFeatures(
        features=plan.features(plan.target_key or plan.key, split),
        is_waveform=plan.config.pretrain.cluster_features == "mfcc",
        frame_samples=model.encoder.min_samples,
        hop_samples=model.encoder.hop_samples,
    )


def _clusters(plan: PretrainPlan, model: PretrainingModel, group: ProcessGroup) -> Clusters:
    """The clusters of the training clips: found by the first process, then read from `<run>/clusters.npz` by all."""
    uri = storage.join(plan.config.run, "clusters.npz")
    if group.rank == 0 and not storage.exists(uri):
        frames = _frames(plan, "train", model)
        num_clips = len(plan.rows("train"))
        find_clusters(frames, num_clips, plan.config.pretrain, seed=plan.config.seed).write(uri)
    group.states(None)  # waits for the first
    return Clusters.read(uri)


def epoch_log(num_epochs: int, *, name: str = NAME) -> OnEpoch:
    """An `on_epoch` that logs one line per epoch: loss, accuracy and perplexity, of val where there is one.

    Followers get all numbers, by split and step.
    """
    progress = Progress(name, unit="steps", interval_s=0)

    def log(done: int, total: int, rows: list[Row]) -> None:
        row = rows[-1]
        split = "val " if row["split"] == "val" else ""
        note = f"epoch {row['epoch']}/{num_epochs}: {split}loss {row['loss']:.3f} (chance {row['chance_loss']:.3f}), "
        note += f"{split}accuracy {row['accuracy']:.3f} (chance {row['chance_accuracy']:.3f}), "
        progress(done, total, note=f"{note}perplexity {row['perplexity']:.1f}")
        for row_of_split in rows:
            group = str(row_of_split["split"]) if name == NAME else f"{name}/{row_of_split['split']}"
            values = {
                key: value for key, value in row_of_split.items() if key not in ("split", "step", "epoch")
            }
            measured(group, [(row_of_split["step"], values)])

    return log


def _train(config: PretrainConfig, trainer: Pretrainer, report: OnEpoch) -> None:
    def on_epoch() -> None:
        at = trainer.position
        report(at.step, trainer.num_steps, [row for row in at.curve if row["epoch"] == at.epoch])

    def is_kept() -> bool:
        # No checkpoint in a possible collapse, so that the newest one is from before the collapse.
        return not (trainer.position.alarms.is_rising and config.training.on_collapse == "stop")

    try:
        train_resumed(
            trainer, config.run, config.checkpoint, noun="pre-training", on_epoch=on_epoch, is_kept=is_kept
        )
    except CollapseError as error:
        raise UserError(
            f"{error}, and give the new settings a directory of their own with --run (checkpoints of before it are in "
            f"{storage.join(config.run, 'checkpoints')}; --training.on_collapse warn continues)"
        ) from error


def _code_usage(trainer: Pretrainer) -> pa.Table:
    """How often the final weights use each code, on val with its fixed draws, else on train."""
    totals = trainer.validation()
    split = "val"
    if totals is None:
        totals = Totals.from_flat(np.array(trainer.position.last_totals), trainer.model.code_shape)
        split = "train"
    groups, codes = np.indices(totals.code_counts.shape)
    return pa.table(
        {
            "split": pa.array([split] * totals.code_counts.size),
            "group": groups.ravel(),
            "code": codes.ravel(),
            "fraction": (totals.code_counts / totals.num_masked).ravel(),
        }
    )
