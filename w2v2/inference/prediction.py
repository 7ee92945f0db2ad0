"""Predictions of a saved model for recordings: read, decoded, cut into windows, run in batches by length."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from w2v2.audio.decoding import SAMPLE_RATE, AudioError
from w2v2.audio.descriptors import describe
from w2v2.audio.waveforms import normalized, read_clip, waveform_digest, windows
from w2v2.config.data import AudioConfig
from w2v2.features.batches import ClipSet, batches_by_budget
from w2v2.inference.prediction_records import ClipPlace, ClipPrediction
from w2v2.inference.transcription import NOT_FINITE, frame_windows, transcribed
from w2v2.models.classifier import Classifier
from w2v2.models.ctc import SpeechModel, Transcriber
from w2v2.models.decoder import Decoder
from w2v2.models.device import on_device, padded_budget, select_device
from w2v2.models.lengths import longest_s
from w2v2.models.malloc import malloc_keeps_freed_memory
from w2v2.models.model_info import ModelInfo
from w2v2.models.probabilities import probabilities
from w2v2.models.saved_model import SavedModel
from w2v2.storage import files as storage
from w2v2.storage.files import StorageError

MAX_S = 3600.0
"""Longest recording in windows: a file is held in memory while it is decoded."""


def predict_clips(
    clips: Sequence[ClipPlace],
    saved: SavedModel,
    *,
    num_readers: int,
    window_s: float = 0.0,
    hop_s: float = 0.0,
    decoder: Decoder | None = None,
) -> list[ClipPrediction]:
    """The model's prediction for each clip (clip_id, uri, start_s, end_s), in order; a bad clip does not stop the others."""
    bodies = storage.read_many([clip["uri"] for clip in clips], num_at_once=num_readers)
    return predict_bodies(clips, bodies, saved, window_s=window_s, hop_s=hop_s, decoder=decoder)


def predict_bodies(
    clips: Sequence[ClipPlace],
    bodies: Iterable[bytes | StorageError],
    saved: SavedModel,
    *,
    window_s: float = 0.0,
    hop_s: float = 0.0,
    decoder: Decoder | None = None,
) -> list[ClipPrediction]:
    """The predictions of `predict` for clips whose files' bytes are given.

    A transcript covers the whole clip, also where it is computed in windows; other predictions are made for each
    window. decoder is for transcripts; None is greedy.
    """
    info = saved.info
    if not isinstance(saved.model, Transcriber):
        # Windows are placed in the file, so nothing may be cut off at its beginning.
        whole = replace(info.audio, max_s=MAX_S, trim_db=0.0, crop_s=0.0, fixed_s=0.0)
        audio = whole if window_s else info.audio
        clip_predictions, pieces = _read(clips, bodies, saved, audio=audio, window_s=window_s, hop_s=hop_s)
        return _with_values(clip_predictions, predict_waveforms(pieces, saved))
    assert info.vocabulary is not None
    window_s, hop_s = frame_windows(saved.model, window_s=window_s, hop_s=hop_s)
    audio = replace(info.audio, max_s=MAX_S) if window_s else info.audio
    clip_predictions, pieces = _read(clips, bodies, saved, audio=audio, window_s=window_s, hop_s=hop_s)
    decoder = decoder or Decoder(vocabulary=info.vocabulary)
    return transcribed(clip_predictions, pieces, saved.model, decoder, normalize=info.normalize, hop_s=hop_s)


def _read(
    clips: Sequence[ClipPlace],
    bodies: Iterable[bytes | StorageError],
    saved: SavedModel,
    *,
    audio: AudioConfig,
    window_s: float,
    hop_s: float,
) -> tuple[list[ClipPrediction], list[Float[np.ndarray, " _"]]]:
    """Each clip with its windows or the reason why it cannot be used, and the waveforms of all windows."""
    min_samples = saved.model.encoder.min_samples
    least = max(min_samples, round(audio.min_s * SAMPLE_RATE))
    max_s = longest_s(saved.model.encoder, window_s=window_s)
    predictions: list[ClipPrediction] = []
    pieces: list[np.ndarray] = []
    for clip, body in zip(clips, bodies, strict=True):
        start_s, end_s = float(clip["start_s"]), float(clip["end_s"])
        try:
            decoded = read_clip(
                body, audio, start_s=start_s, end_s=end_s, min_samples=min_samples, max_s=max_s
            )
            waveform = decoded.waveform
            bounds = windows(len(waveform), window_s=window_s, hop_s=hop_s, min_samples=least)
            pieces += [waveform[first:last] for first, last in bounds]
            spans = tuple((start_s + a / SAMPLE_RATE, start_s + b / SAMPLE_RATE) for a, b in bounds)
            predictions.append(
                ClipPrediction(
                    clip_id=clip["clip_id"],
                    spans=spans,
                    duration_s=len(waveform) / SAMPLE_RATE,
                    audio_digest=waveform_digest(waveform),
                    tolerated=decoded.tolerated,
                    quality=decoded.quality,
                )
            )
        except (AudioError, StorageError) as error:
            unread = isinstance(error, StorageError)
            predictions.append(ClipPrediction(clip_id=clip["clip_id"], reject=error.reject, unread=unread))
    return predictions, pieces


def _with_values(
    clips: Sequence[ClipPrediction], values: Float[np.ndarray, "pieces outputs"]
) -> list[ClipPrediction]:
    """Each clip with its rows of values; one whose values are not finite is rejected."""
    predictions, at = [], 0
    for prediction in clips:
        rows = values[at : at + len(prediction.spans)]
        at += len(prediction.spans)
        if prediction.reject:
            predictions.append(prediction)
        elif np.isfinite(rows).all():
            predictions.append(replace(prediction, values=rows))
        else:
            predictions.append(ClipPrediction(clip_id=prediction.clip_id, reject=NOT_FINITE))
    return predictions


@malloc_keeps_freed_memory()
@torch.no_grad()
def predict_waveforms(
    waveforms: Sequence[Float[np.ndarray, " _"]], saved: SavedModel
) -> Float[np.ndarray, "waveforms outputs"]:
    """Probabilities of classes or labels, or values, of 16 kHz waveforms, in order; batches change rounding alone.

    For an ensemble they are the means over its members.
    """
    models = (saved.model, *saved.others)
    outputs = [probabilities(raw_outputs(waveforms, model, saved.info), saved.info.kind) for model in models]
    return (
        np.mean(outputs, axis=0, dtype=np.float64).astype(outputs[0].dtype)
        if len(outputs) > 1
        else outputs[0]
    )


@torch.no_grad()
def raw_outputs(
    waveforms: Sequence[Float[np.ndarray, " _"]], model: SpeechModel, info: ModelInfo
) -> Float[np.ndarray, "waveforms outputs"]:
    """Logits, or the values of a regression, of 16 kHz waveforms by one model, in order."""
    assert isinstance(model, Classifier), "transcripts are of whole clips: transcribed"
    device = select_device()
    model.to(device).eval()
    prepared = [normalized(w) if info.normalize else w for w in waveforms]
    joined = info.head.joined
    descriptors = np.stack([describe(w, joined) for w in waveforms]) if joined and waveforms else None
    lengths = np.array([len(w) for w in prepared], dtype=np.int64)
    clips = ClipSet(
        features=prepared, lengths=lengths, targets=np.zeros(len(lengths), np.int64), descriptors=descriptors
    )
    outputs = np.zeros((len(lengths), model.num_outputs), np.float32)
    for batch in batches_by_budget(lengths, max_padded=padded_budget(device)):
        inputs = [*clips.select(batch), clips.descriptors_of(batch)]
        padded, num_samples, *others = on_device(device, *inputs)
        features, num = model.encoder.trunk(padded, num_samples)
        outputs[batch] = model(features, num, *others).float().cpu().numpy()
    return outputs
