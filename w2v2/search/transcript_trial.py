"""One fold of a trial on transcripts, trained and scored in this process; runs on a worker."""

import time

import numpy as np
import torch

from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data.text import Vocabulary, padded_targets, vocabulary_of
from w2v2.models.classifier import trainable_copy
from w2v2.models.ctc import Transcriber
from w2v2.models.ctc_checkpoint import read_vocabulary
from w2v2.models.decoder import Decoder
from w2v2.models.lora import add_lora
from w2v2.models.pretrained import loaded_encoder
from w2v2.search.trial import SearchPlan, clip_set, fold_seed
from w2v2.training.fold_result import DivergenceError, FoldTranscripts
from w2v2.training.process_group import ProcessGroup
from w2v2.training.trained_weights import num_trained_parameters
from w2v2.training.trainer import Trainer
from w2v2.training.transcription import new_transcriber, predict_transcripts, transcript_loss


def score_transcripts(
    settings: TuneFoldsConfig, plan: SearchPlan, fold: int, group: ProcessGroup
) -> FoldTranscripts:
    """The fold's score, after a model has been trained on the other folds, with their characters, for all epochs.

    Raises DivergenceError when the loss is not finite.
    """
    started = time.perf_counter()
    torch.set_num_threads(max(1, int(settings.resources.cpus_per_worker)))
    train, held_out = plan.rows_of(fold)
    references, expected = (plan.clips["reference"].take(rows).to_pylist() for rows in (train, held_out))
    vocabulary = _vocabulary(settings, references)
    seed = fold_seed(settings.seed, fold)
    model = _new_model(settings, vocabulary, seed=seed)
    precision = settings.resources.precision
    trainer = Trainer(
        model,
        clip_set(settings, plan, train, targets=padded_targets(references, vocabulary)),
        task=settings.task,
        optim=settings.optim,
        training=settings.training,
        precision=precision,
        seed=seed,
        group=group,
    )
    curve = trainer.run()
    clips = clip_set(settings, plan, held_out, targets=padded_targets(expected, vocabulary))
    loss = transcript_loss(model, clips, trainer.objective, precision=precision, group=group)
    if np.isinf(loss):  # NaN is the loss of clips without a character that can be written
        raise DivergenceError(f"the loss of held-out fold {fold} is {loss}")
    decoder = Decoder(vocabulary=vocabulary)
    written = predict_transcripts(model, clips, decoder, precision=precision, group=group)
    return FoldTranscripts(
        fold=fold,
        clip_ids=plan.clips["clip_id"].take(held_out).to_pylist(),
        references=expected,
        hypotheses=[transcript.text for transcript in written],
        spaces=settings.text.spaces,
        loss=loss,
        num_train=len(train),
        seconds=time.perf_counter() - started,
        curve=curve,
        num_trained_parameters=num_trained_parameters(model),
    )


def _new_model(settings: TuneFoldsConfig, vocabulary: Vocabulary, *, seed: int) -> Transcriber:
    """The encoder with an output for each character, before anything is trained."""
    encoder, _ = loaded_encoder(settings.encoder, settings.seed)
    torch.manual_seed(seed)
    checkpoint = settings.encoder if settings.text.vocab == "model" else None
    model = new_transcriber(trainable_copy(encoder), settings.head, vocabulary, checkpoint=checkpoint)
    add_lora(model.encoder, settings.lora)
    return model


def _vocabulary(settings: TuneFoldsConfig, references: list[str]) -> Vocabulary:
    """The characters of the training folds, or the vocabulary of the CTC model that is trained further."""
    if settings.text.vocab == "model":
        return read_vocabulary(settings.encoder.name)
    return vocabulary_of(references, settings.text)
