"""Transcripts of clips by a model in memory, and its loss on clips that are not trained on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.data.text import Vocabulary
from w2v2.features.batches import ClipSet, batches_by_budget
from w2v2.models.ctc import Transcriber
from w2v2.models.ctc_checkpoint import read_output_layer
from w2v2.models.ctc_loss import FrameLogits
from w2v2.models.decoder import Decoder
from w2v2.models.decoding import Transcript
from w2v2.models.device import on_device
from w2v2.models.encoder import Encoder
from w2v2.models.malloc import malloc_keeps_freed_memory
from w2v2.models.objective import Objective
from w2v2.models.probabilities import log_softmax
from w2v2.training.forward import memory_hint
from w2v2.training.process_group import ProcessGroup


@torch.no_grad()
def new_transcriber(
    encoder: Encoder, head: HeadConfig, vocabulary: Vocabulary, *, checkpoint: EncoderConfig | None
) -> Transcriber:
    """The model before its first step; its output layer comes from the CTC model `checkpoint`, and is random without one."""
    num_outputs = len(vocabulary.tokens)
    model = Transcriber(encoder, head, num_outputs=num_outputs, blank=vocabulary.blank)
    if checkpoint is not None:
        layer: Any = model.head.layers[-1]
        weight, bias = read_output_layer(checkpoint, num_outputs)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return model


@malloc_keeps_freed_memory()
def predict_transcripts(
    model: Transcriber,
    clips: ClipSet,
    decoder: Decoder,
    *,
    precision: str = "float32",
    group: ProcessGroup | None = None,
) -> list[Transcript]:
    """The transcript of every clip in order, in evaluation mode; the batching changes nothing but rounding.

    Several processes transcribe a share each and all return the whole.
    """
    group = group or ProcessGroup()
    share = group.share(np.arange(len(clips)))
    share_by_row = {
        row: decoder.transcript(log_probabilities, frame_s=model.encoder.frame_s)
        for row, log_probabilities in frame_log_probabilities(model, clips, share, precision=precision)
    }
    by_row = {row: transcript for part in group.states(share_by_row) for row, transcript in part.items()}
    return [by_row[row] for row in range(len(clips))]


def frame_log_probabilities(
    model: Transcriber, clips: ClipSet, rows: Int[np.ndarray, " rows"], *, precision: str
) -> Iterator[tuple[int, Float[np.ndarray, "frames outputs"]]]:
    """Some rows of the clips, in no order, each with the log probabilities of its frames."""
    for batch, outputs in _frame_logits(model, clips, rows, precision):
        lengths = outputs.num_frames.tolist()
        for row, logits, num in zip(batch.tolist(), outputs.logits.cpu().numpy(), lengths, strict=True):
            yield row, log_softmax(logits[:num])


def transcript_loss(
    model: Transcriber,
    clips: ClipSet,
    objective: Objective,
    *,
    precision: str = "float32",
    group: ProcessGroup | None = None,
) -> float:
    """The loss per character of clips that are not trained on; sums of all processes, NaN without a character."""
    group = group or ProcessGroup()
    sums = torch.zeros(2, dtype=torch.float64, device=next(model.parameters()).device)
    for rows, outputs in _frame_logits(model, clips, group.share(np.arange(len(clips))), precision):
        targets = torch.from_numpy(clips.targets[rows]).to(sums.device)
        sums[0] += objective.loss_sum(outputs, targets)
        sums[1] += objective.weight(targets)
    loss, weight = group.sum(sums).tolist()
    return loss / weight if weight else float("nan")


def _frame_logits(
    model: Transcriber, clips: ClipSet, rows: Int[np.ndarray, " rows"], precision: str
) -> Iterator[tuple[Int[np.ndarray, " batch"], FrameLogits]]:
    """Batches of some rows of the clips, and their logits in float32."""
    model.eval()
    device = next(model.parameters()).device
    budget = int(clips.lengths.max(initial=1)) * (64 if device.type == "cuda" else 8)
    for places in batches_by_budget(clips.lengths[rows], max_padded=budget):
        batch = rows[places]
        inputs = on_device(device, *clips.select(batch))
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        with torch.no_grad(), memory_hint(), autocast:
            outputs = model(*inputs)
        yield batch, FrameLogits(outputs.logits.float(), outputs.num_frames)
