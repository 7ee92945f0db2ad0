"""One model fine-tuned from features in the cache: training, checkpoints, and the predictions for val and test."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int, Shaped

from w2v2.config.finetune import FinetuneConfig
from w2v2.data.groups import dictionary_encoded
from w2v2.data.targets import target_array
from w2v2.data.text import Vocabulary, padded_targets
from w2v2.features.augmentation import AugmentedFeatures
from w2v2.features.batches import ClipSet
from w2v2.features.cache import FeatureCache
from w2v2.features.packed_vectors import open_features
from w2v2.json_types import Json
from w2v2.measurements import measured
from w2v2.models.classifier import Classifier, trainable_copy
from w2v2.models.ctc import SpeechModel, Transcriber
from w2v2.models.decoder import Decoder
from w2v2.models.decoding import Transcript
from w2v2.models.encoder import Encoder
from w2v2.models.lora import add_lora, merge_lora
from w2v2.models.model_info import ModelInfo
from w2v2.models.pretrained import loaded_encoder
from w2v2.models.probabilities import probabilities
from w2v2.models.saved_model import save_model
from w2v2.progress import Progress
from w2v2.storage import files as storage
from w2v2.training.checkpoint import train_resumed
from w2v2.training.decoding_weights import BeamDecoding, beam_transcripts
from w2v2.training.fold_result import Epoch
from w2v2.training.forward import predict_logits
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trainer import Trainer, num_trained_parameters
from w2v2.training.transcription import new_transcriber, predict_transcripts

logger = logging.getLogger(__name__)

HELD_OUT = "held_out"
"""The split of the clips that a member of an ensemble predicts and does not train on."""
MEMBER_STRIDE = 100_003
"""The distance between the seeds of one member of an ensemble and the next."""

OnEpoch = Callable[[int, int, Epoch], None]
"""Called after each epoch with the steps done, the steps of the whole training, and the epoch's losses."""


@dataclass(frozen=True, kw_only=True)
class FinetunePlan:
    """The plan that every process of a fine-tuning needs: settings, clips with their splits, and the place of their features."""

    config: FinetuneConfig
    groups: tuple[tuple[str, ...], ...]
    """The names of the outputs of each head."""
    key: str
    """The folder of the features in the cache."""
    clips: pa.Table
    """The columns of `planned_clips` for every clip."""
    descriptors: Float[np.ndarray, "clips descriptors"] | None = None
    """Hand-made features of every clip, where the head joins some."""
    vocabulary: Vocabulary | None = None
    """The characters of the outputs of a model of transcripts."""
    card: dict[str, Json]
    """Entries of the model card in addition to the description of the model."""
    member: int = 0
    """The number of the ensemble's member; each has its own seed."""
    model_uri: str = ""
    """The model folder; empty is `<run>/model`."""

    @property
    def seed(self) -> int:
        """The seed of new weights and batches; config.seed alone makes a random encoder, which members share."""
        return self.config.seed + MEMBER_STRIDE * self.member

    @property
    def names(self) -> list[str]:
        """The names of the outputs."""
        return [name for group in self.groups for name in group]

    @property
    def num_descriptors(self) -> int:
        """The number of hand-made features per clip."""
        return 0 if self.descriptors is None else self.descriptors.shape[1]

    @property
    def midpoints(self) -> list[float] | None:
        """The means of the training targets of a regression, around which evaluation forms quadrants.

        None for other tasks, and where no training clip has some target.
        """
        if self.config.task.kind != "regression":
            return None
        targets = target_array(self.clips, "regression", self.names)[self.rows("train")]
        if np.isnan(targets).all(axis=0).any():
            return None
        return np.nanmean(targets.astype(np.float64), axis=0).tolist()

    def rows(self, *splits: str) -> np.ndarray:
        """The rows of the clips of some splits, shape (clips,)."""
        return np.flatnonzero(pc.is_in(self.clips["split"], pa.array(splits)).to_numpy())


def planned_clips(clips: pa.Table, *, is_divided: bool) -> pa.Table:
    """The columns of the clips that training needs, about 90 bytes for a clip with a class; repeated names are stored as numbers.

    The columns are split, audio_digest, num_samples, the targets, and the speaker for the model's record of its
    training; also clip_id where the training clips are divided into folds (is_divided).
    """
    needed = {"audio_digest", "num_samples", "reference", *(["clip_id"] if is_divided else [])}
    shared = {"split", "speaker", "label"}
    columns = {}
    for name in clips.column_names:
        if name in shared:
            columns[name] = dictionary_encoded(clips[name])
        elif name in needed or name.startswith("target_"):
            columns[name] = clips[name]
    return pa.table(columns)


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """The result of a fine-tuning; the model itself is in the model folder."""

    rows: Int[np.ndarray, " rows"]
    """The rows of the clips of val and test, and of the clips that a member of an ensemble holds out."""
    values: Float[np.ndarray, "rows outputs"] | Sequence[Transcript]
    """The probabilities, the values of a regression, or the transcripts of these clips."""
    curve: list[Epoch]
    best_epoch: int | None
    """The epoch whose weights were kept; None for an ensemble whose members kept different ones."""
    num_trained_parameters: int
    """Numbers that were trained."""
    digest: str
    """The model's digest; empty on all processes but the first, which writes the model."""
    beam: BeamDecoding | None = None
    """The beam search that decoded transcripts; None for greedy decoding."""


def finetune(
    plan: FinetunePlan,
    *,
    group: ProcessGroup | None = None,
    on_epoch: OnEpoch = lambda done, total, point: None,
) -> FinetuneResult:
    """Predictions for val and test, once the model has been trained in this process and `<run>/model` written.

    Resumes from the newest checkpoint below `<run>/checkpoints`. All processes of `group` call this together;
    only the first writes files and calls `on_epoch`. The features must be in the cache.

    Raises UserError when the loss is not finite, when the GPU's memory does not suffice, or when the
    checkpoints were written by another number of processes.
    """
    group = group or ProcessGroup()
    torch.set_num_threads(max(1, int(plan.config.resources.cpus_per_worker)))
    trainer = make_trainer(plan, group)
    curve = _train(plan.config, trainer, on_epoch)
    count = num_trained_parameters(trainer.model)
    merge_lora(trainer.model.encoder)
    rows = plan.rows("val", "test", HELD_OUT)
    best_epoch = trainer.position.best_epoch or len(curve)
    values, beam = _predict(plan, trainer.model, rows, group)
    return FinetuneResult(
        rows=rows,
        values=values,
        curve=curve,
        best_epoch=best_epoch,
        num_trained_parameters=count,
        digest=_save(plan, trainer, best_epoch=best_epoch, beam=beam) if group.rank == 0 else "",
        beam=beam,
    )


def _predict(
    plan: FinetunePlan, model: SpeechModel, rows: np.ndarray, group: ProcessGroup
) -> tuple[Float[np.ndarray, "rows outputs"] | Sequence[Transcript], BeamDecoding | None]:
    """The model's probabilities, values or transcripts of some clips, and how the transcripts were searched."""
    clips, precision = _clip_set(plan, rows), plan.config.resources.precision
    if not isinstance(model, Transcriber):
        outputs = predict_logits(model, clips, precision=precision, group=group)
        return probabilities(outputs, plan.config.task.kind), None
    assert plan.vocabulary is not None
    if plan.config.decode.kind == "greedy":
        decoder = Decoder(vocabulary=plan.vocabulary)
        return predict_transcripts(model, clips, decoder, precision=precision, group=group), None
    return beam_transcripts(
        model,
        clips,
        plan.vocabulary,
        plan.config.decode,
        references=plan.clips["reference"].take(pa.array(rows)).to_pylist(),
        tune_on=np.flatnonzero(np.isin(rows, plan.rows("val"))).tolist(),
        precision=precision,
        group=group,
    )


def epoch_log(num_epochs: int, *, group: str) -> OnEpoch:
    """An `on_epoch` that logs one line per epoch (loss, UAR and validation loss) and passes the numbers to followers under `group`."""
    progress = Progress("training", unit="steps", interval_s=0)

    def log(done: int, total: int, point: Epoch) -> None:
        note = f"epoch {point.epoch}/{num_epochs}: loss {point.train_loss:.4f}"
        note += "" if point.train_uar is None else f", UAR {point.train_uar:.3f}"
        note += "" if point.val_loss is None else f", val loss {point.val_loss:.4f}"
        progress(done, total, note=note)
        values = {name: value for name, value in asdict(point).items() if name != "epoch"}
        measured(group, [(point.epoch, values)])

    return log


def make_trainer(plan: FinetunePlan, group: ProcessGroup) -> Trainer:
    """The training at its start."""
    config = plan.config
    assert config.optim.learning_rate, "left open: the job fills it in"
    encoder, _ = loaded_encoder(config.encoder, config.seed)
    train_set = _clip_set(plan, plan.rows("train"), augmented=True)
    torch.manual_seed(plan.seed)
    make = _new_transcriber if config.task.kind == "transcript" else _new_classifier
    model = make(plan, trainable_copy(encoder), train_set)
    add_lora(model.encoder, config.lora)
    val = plan.rows("val")
    return Trainer(
        model,
        train_set,
        task=config.task,
        optim=config.optim,
        training=config.training,
        precision=config.resources.precision,
        seed=plan.seed,
        group=group,
        val=_clip_set(plan, val) if len(val) else None,
    )


def _new_classifier(plan: FinetunePlan, encoder: Encoder, train_set: ClipSet) -> Classifier:
    """The model before its first step, with the statistics that it takes from the training clips."""
    model = Classifier(
        encoder,
        plan.config.head,
        groups=[len(group) for group in plan.groups],
        num_descriptors=plan.num_descriptors,
        denormalize=plan.config.task.kind == "regression",
    )
    if model.descriptor_scaler is not None and train_set.descriptors is not None:
        model.descriptor_scaler.fit(train_set.descriptors)
    if model.target_scaler is not None:
        model.target_scaler.fit(train_set.targets)
    return model


def _new_transcriber(plan: FinetunePlan, encoder: Encoder, train_set: ClipSet) -> Transcriber:
    """The model before its first step; with text.vocab=model its output layer comes from the CTC model."""
    assert plan.vocabulary is not None
    config = plan.config
    checkpoint = config.encoder if config.text.vocab == "model" else None
    return new_transcriber(encoder, config.head, plan.vocabulary, checkpoint=checkpoint)


def _train(config: FinetuneConfig, trainer: Trainer, report: OnEpoch) -> list[Epoch]:
    """The learning curve, after training from the newest checkpoint to the end; writes checkpoints on the way."""

    def on_epoch() -> None:
        report(trainer.position.step, trainer.num_steps, trainer.position.curve[-1])

    train_resumed(trainer, config.run, config.checkpoint, noun="training", on_epoch=on_epoch)
    return trainer.position.curve


def _save(plan: FinetunePlan, trainer: Trainer, *, best_epoch: int, beam: BeamDecoding | None) -> str:
    """The model's digest, after its folder has been written."""
    num_epochs = len(trainer.position.curve)
    card = plan.card | {"midpoints": plan.midpoints, "epochs": num_epochs, "kept_epoch": best_epoch}
    made_from = plan.clips.take(pa.array(plan.rows("train", *(["val"] if trainer.best else []))))
    uri = plan.model_uri or storage.join(plan.config.run, "model")
    info = _info(plan, trainer.model, beam)
    return save_model(uri, trainer.model, info, card=card, made_from=made_from)


def _info(plan: FinetunePlan, model: SpeechModel, beam: BeamDecoding | None) -> ModelInfo:
    config = plan.config
    return ModelInfo(
        kind=config.task.kind,
        groups=plan.groups,
        audio=config.audio,
        encoder=config.encoder,
        head=config.head,
        normalize=model.encoder.normalize,
        num_descriptors=plan.num_descriptors,
        text=config.text if plan.vocabulary else None,
        vocabulary=plan.vocabulary,
        decode=beam.decode if beam else None,
    )


def _clip_set(plan: FinetunePlan, rows: np.ndarray, *, augmented: bool = False) -> ClipSet:
    config = plan.config
    clips = plan.clips.take(pa.array(rows))
    cache = FeatureCache(config.cache, plan.key)
    features = open_features(cache, clips["audio_digest"], num_at_once=config.data.num_readers)
    if augmented and config.augment.kinds:
        normalize = loaded_encoder(config.encoder, config.seed)[0].normalize
        features = AugmentedFeatures(features, config.augment, plan.seed, normalize=normalize)
    return ClipSet(
        features=features,
        lengths=np.asarray(clips["num_samples"]),
        targets=_targets(plan, clips),
        descriptors=None if plan.descriptors is None else plan.descriptors[rows],
    )


def _targets(plan: FinetunePlan, clips: pa.Table) -> Shaped[np.ndarray, "clips ..."]:
    """The targets of some clips in the form of the model's objective."""
    if plan.vocabulary is not None:
        return padded_targets(clips["reference"].to_pylist(), plan.vocabulary)
    return target_array(clips, plan.config.task.kind, plan.names)
