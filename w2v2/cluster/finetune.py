"""One model trained under Ray Train: steps, checkpoints, validation, and a look at the test split at the end."""

import functools
import logging
import tempfile
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from jaxtyping import Float
from ray.util.queue import Queue

from w2v2.cluster import connection as ray_cluster
from w2v2.cluster.ddp import work_together
from w2v2.config.finetune import FinetuneConfig
from w2v2.errors import UserError
from w2v2.evaluation.predictions import targets_of
from w2v2.features.augmentation import AugmentedFeatures
from w2v2.features.batches import ClipSet
from w2v2.features.cache import FeatureCache, open_features
from w2v2.models.classifier import Classifier, fresh
from w2v2.models.model_info import ModelInfo
from w2v2.models.objective import probabilities
from w2v2.models.pretrained import loaded_encoder
from w2v2.models.saved_model import save_model
from w2v2.progress import Progress
from w2v2.storage import files as storage
from w2v2.training.checkpoint import Checkpoints, restore, take
from w2v2.training.fold_result import Diverged, Epoch
from w2v2.training.forward import predict_logits
from w2v2.training.process_group import World
from w2v2.training.trainer import Fitting

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the workers need: settings, clips in order with their splits, and where their features are."""

    config: FinetuneConfig
    groups: tuple[tuple[str, ...], ...]
    key: str
    """The folder of the features in the cache."""
    clips: pa.Table
    """clip_id, split, audio_digest, num_samples and the targets of every clip."""
    descriptors: Float[np.ndarray, "clips descriptors"] | None
    """Hand-made features of every clip, where the head joins some."""
    card: dict[str, Any]
    """What the model card says beside the model itself."""
    gpus: float

    @property
    def names(self) -> list[str]:
        """The names of the outputs."""
        return [name for group in self.groups for name in group]

    def rows(self, *splits: str) -> np.ndarray:
        """The rows of the clips of some splits."""
        return np.flatnonzero(np.isin(np.array(self.clips["split"].to_pylist()), splits))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training leaves beside the model folder."""

    rows: np.ndarray
    """The rows of the clips that were not trained on, val and test."""
    values: Float[np.ndarray, "rows outputs"]
    """Their probabilities, or values of a regression."""
    curve: list[Epoch]
    best_epoch: int
    """The epoch whose weights were kept."""
    digest: str
    num_steps: int


def train(plan: Plan) -> Trained:
    """The trained model's look at val and test; its folder is written, and checkpoints on the way."""
    config = plan.config
    said = Queue(actor_options={"num_cpus": 0})
    listener = threading.Thread(target=_tell, args=(said, config.training.num_epochs), daemon=True)
    listener.start()
    try:
        if config.workers == 1:  # on a worker that has the encoder at hand
            task = ray_cluster.task(_work_alone, cpus=config.cpus_per_worker, gpus=plan.gpus)
            return ray.get(task.remote(plan, said))
        with tempfile.TemporaryDirectory(prefix="w2v2-train-") as scratch:
            return work_together(
                functools.partial(_work, plan, said),
                num_workers=config.workers,
                cpus=config.cpus_per_worker,
                gpus=plan.gpus,
                name="finetune",
                storage_path=scratch,
            )
    except Exception as error:
        raise ray_cluster.user_error(error) or error from error
    finally:
        said.put(None)
        listener.join(timeout=10)
        said.shutdown()


def _tell(said: Any, num_epochs: int) -> None:
    """Log what the first worker says, until it says no more."""
    progress = Progress("training", unit="steps", interval_s=0)
    while (heard := said.get()) is not None:
        done, total, point = heard
        at = f"epoch {point.epoch}/{num_epochs}: loss {point.train_loss:.4f}"
        at += "" if point.train_uar is None else f", UAR {point.train_uar:.3f}"
        at += "" if point.val_loss is None else f", val loss {point.val_loss:.4f}"
        progress(done, total, note=at)


def _work_alone(plan: Plan, said: Any) -> Trained:
    return _work(plan, said, World())


def _work(plan: Plan, said: Any, world: World) -> Trained:
    """Train in this process, alone or as one of several; runs on a worker."""
    fitting = make_fitting(plan, world)
    checkpoints = Checkpoints(plan.config.run, keep=plan.config.checkpoint.keep)
    if found := checkpoints.latest():
        restore(fitting, found)
    every = plan.config.checkpoint.every_steps

    def on_step(fitting: Fitting) -> None:
        if every and fitting.position.step % every == 0:
            _keep(fitting, checkpoints)

    def on_epoch(fitting: Fitting) -> None:
        _keep(fitting, checkpoints)
        if world.rank == 0:
            said.put((fitting.position.step, fitting.num_steps, fitting.position.curve[-1]))

    try:
        curve = fitting.run(on_step=on_step, on_epoch=on_epoch)
    except Diverged as error:
        raise UserError(
            f"the training diverged: {error}; lower --optim.learning_rate, or set --optim.clip_norm 1, and give the new "
            "settings a directory of their own with --run"
        ) from error
    rows = plan.rows("val", "test")
    precision = plan.config.training.precision
    outputs = predict_logits(fitting.model, _clip_set(plan, rows), precision=precision, world=world)
    info = _info(plan, fitting.model)
    uri = storage.join(plan.config.run, "model")
    best_epoch = fitting.position.best_epoch or len(curve)
    card = plan.card | {"midpoints": _midpoints(plan), "epochs": len(curve), "kept_epoch": best_epoch}
    made_from = plan.clips.take(pa.array(plan.rows("train", *(["val"] if fitting.best else []))))
    saves = world.rank == 0
    digest = save_model(uri, fitting.model, info, card=card, made_from=made_from) if saves else ""
    return Trained(
        rows=rows,
        values=probabilities(outputs, plan.config.task.kind),
        curve=curve,
        best_epoch=best_epoch,
        digest=digest,
        num_steps=fitting.position.step,
    )


def make_fitting(plan: Plan, world: World) -> Fitting:
    """The training at its start."""
    import torch

    config = plan.config
    torch.set_num_threads(max(1, int(config.cpus_per_worker)))
    encoder, _ = loaded_encoder(config.encoder, config.seed)
    train_set = _clip_set(plan, plan.rows("train"), augmented=True)
    torch.manual_seed(config.seed)
    model = Classifier(
        fresh(encoder),
        config.head,
        groups=[len(group) for group in plan.groups],
        num_descriptors=0 if plan.descriptors is None else plan.descriptors.shape[1],
        in_units=config.task.kind == "regression",
    )
    if model.joined is not None and train_set.descriptors is not None:
        model.joined.fit(train_set.descriptors)
    if model.units is not None:
        model.units.fit(train_set.targets)
    val = plan.rows("val")
    return Fitting(
        model,
        train_set,
        task=config.task,
        optim=config.optim,
        training=config.training,
        seed=config.seed,
        world=world,
        val=_clip_set(plan, val) if len(val) else None,
    )


def _midpoints(plan: Plan) -> list[float] | None:
    """The means of the training targets of a regression."""
    if plan.config.task.kind != "regression":
        return None
    targets = targets_of(plan.clips, "regression", plan.names)[plan.rows("train")]
    return np.nanmean(targets.astype(np.float64), axis=0).tolist()


def _keep(fitting: Fitting, checkpoints: Checkpoints) -> None:
    taken = take(fitting)  # by all processes together
    if fitting.world.rank == 0:
        checkpoints.write(fitting.position.step, taken)


def _info(plan: Plan, model: Classifier) -> ModelInfo:
    config = plan.config
    return ModelInfo(
        kind=config.task.kind,
        groups=plan.groups,
        audio=config.audio,
        encoder=config.encoder,
        head=config.head,
        normalize=model.encoder.normalize,
        num_descriptors=0 if plan.descriptors is None else plan.descriptors.shape[1],
    )


def _clip_set(plan: Plan, rows: np.ndarray, *, augmented: bool = False) -> ClipSet:
    config = plan.config
    clips = plan.clips.take(pa.array(rows))
    digests = clips["audio_digest"].to_pylist()
    cache = FeatureCache(config.cache, plan.key)
    features = open_features(cache, digests, num_at_once=config.data.num_readers)
    if augmented and config.augment.kinds:
        normalize = loaded_encoder(config.encoder, config.seed)[0].normalize
        features = AugmentedFeatures(features, config.augment, config.seed, normalize=normalize)
    return ClipSet(
        features=features,
        lengths=np.asarray(clips["num_samples"]),
        targets=targets_of(clips, config.task.kind, plan.names),
        descriptors=None if plan.descriptors is None else plan.descriptors[rows],
    )
