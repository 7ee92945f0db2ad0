"""Transcripts of recordings by a saved model: windows of a long one joined frame by frame, then decoded once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.audio.waveforms import normalized
from w2v2.errors import Reject, UserError
from w2v2.features.batches import batches_by_budget, collate
from w2v2.inference.prediction_records import ClipPrediction
from w2v2.models.ctc import Transcriber
from w2v2.models.decoder import Decoder
from w2v2.models.device import on_device, padded_budget, select_device
from w2v2.models.malloc import malloc_keeps_freed_memory
from w2v2.models.probabilities import log_softmax

NOT_FINITE = Reject(kind="not finite", detail="the model gave NaN or infinite numbers")
OVERLAP_FRACTION = 0.25
"""The fraction of a window that overlaps with the next one, where hop_s is 0."""


def frame_windows(transcriber: Transcriber, *, window_s: float, hop_s: float) -> tuple[float, float]:
    """window_s and hop_s as whole numbers of frames, so that the frames of all windows lie on one grid.

    hop_s 0 lets a quarter of each window overlap with the next. Raises UserError where windows overlap by less
    than the receptive field of one frame.
    """
    if not window_s:
        return 0.0, 0.0
    frame_s = transcriber.encoder.frame_s
    window = round(window_s / frame_s)
    hop = round((hop_s or (1 - OVERLAP_FRACTION) * window_s) / frame_s)
    field = -(-transcriber.encoder.min_samples // round(frame_s * SAMPLE_RATE))
    if hop < 1 or window - hop < field:
        raise UserError(
            f"window_s={window_s:g} and hop_s={hop_s:g}: windows of a transcript must overlap by at least "
            f"{field * frame_s:.3g} s, and move on by at least {frame_s:.3g} s: lower --hop_s or leave it out"
        )
    return window * frame_s, hop * frame_s


def transcribed(
    clips: Sequence[ClipPrediction],
    pieces: Sequence[Float[np.ndarray, " _"]],
    model: Transcriber,
    decoder: Decoder,
    *,
    normalize: bool,
    hop_s: float,
) -> list[ClipPrediction]:
    """Each clip with its transcript; one whose probabilities are not finite is rejected.

    pieces are the waveforms of all windows (spans) of all clips in order, each hop_s after the one before.
    """
    logits = frame_logits(pieces, model, normalize=normalize)
    hop = round(hop_s / model.encoder.frame_s)
    done: list[ClipPrediction] = []
    at = 0
    for clip in clips:
        windows = logits[at : at + len(clip.spans)]
        at += len(clip.spans)
        if not clip.reject:
            whole = (clip.spans[0][0], clip.spans[-1][1])
            joined = log_softmax(join_frames(windows, hop=hop))
            if np.isfinite(joined).all():
                transcript = decoder.transcript(joined, frame_s=model.encoder.frame_s, start_s=whole[0])
                clip = replace(clip, spans=(whole,), transcript=transcript)
            else:
                clip = ClipPrediction(clip_id=clip.clip_id, reject=NOT_FINITE)
        done.append(clip)
    return done


def join_frames(
    parts: Sequence[Float[np.ndarray, "_ outputs"]], *, hop: int
) -> Float[np.ndarray, "frames outputs"]:
    """The frames of a whole recording from the frames of its windows, each `hop` frames after the previous window.

    Where two windows overlap, the first gives the first half of the common frames and the second the rest, so
    that each frame is computed with what comes before and after it, and no word is written twice.

    >>> windows = [np.full((4, 1), float(number)) for number in range(3)]
    >>> join_frames(windows, hop=2)[:, 0].tolist()
    [0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    """
    kept: list[np.ndarray] = []
    first = 0
    for number, part in enumerate(parts):
        begin, end = number * hop, number * hop + len(part)
        if number + 1 < len(parts):
            end -= (end - (number + 1) * hop) // 2
        kept.append(part[first - begin : end - begin])
        first = end
    return np.concatenate(kept)


@malloc_keeps_freed_memory()
@torch.no_grad()
def frame_logits(
    waveforms: Sequence[Float[np.ndarray, " _"]], model: Transcriber, *, normalize: bool
) -> list[Float[np.ndarray, "_ outputs"]]:
    """Logits of the frames of 16 kHz waveforms, in order; batches change rounding alone."""
    device = select_device()
    model.to(device).eval()
    prepared = [normalized(w) if normalize else w for w in waveforms]
    lengths = np.array([len(w) for w in prepared], dtype=np.int64)
    logits_of: list[np.ndarray] = [np.empty((0, model.num_outputs), np.float32)] * len(prepared)
    for batch in batches_by_budget(lengths, max_padded=padded_budget(device)):
        padded, num_samples = on_device(device, *collate([prepared[row] for row in batch]))
        outputs = model(*model.encoder.trunk(padded, num_samples))
        rows = outputs.logits.float().cpu().numpy()
        for row, logits, num in zip(batch, rows, outputs.num_frames.tolist(), strict=True):
            logits_of[row] = logits[:num]
    return logits_of
