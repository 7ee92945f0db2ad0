"""One model fine-tuned from features in the cache: training, checkpoints, and the predictions for val and test."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int, Shaped

from w2v2.config.finetune import FinetuneConfig
from w2v2.data.targets import target_array
from w2v2.data.text import padded_targets
from w2v2.features.augmentation import AugmentedFeatures
from w2v2.features.batches import ClipSet
from w2v2.features.cache import FeatureCache
from w2v2.features.packed_vectors import open_features
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
from w2v2.training.finetune_plan import FinetunePlan
from w2v2.training.fold_result import Epoch
from w2v2.training.forward import predict_logits
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trained_weights import num_trained_parameters
from w2v2.training.trainer import Trainer
from w2v2.training.transcription import new_transcriber, predict_transcripts

logger = logging.getLogger(__name__)

HELD_OUT = "held_out"
"""The split of the clips that a member of an ensemble predicts and does not train on."""

OnEpoch = Callable[[int, int, Epoch], None]
"""Called after each epoch with the steps done, the steps of the whole training, and the epoch's losses."""


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
