"""Connectionist temporal classification: the loss of transcripts, which needs no alignment (Graves et al. 2006).

In a file of its own, as objectives are imported by processes that have no encoder.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn


class FrameLogits(NamedTuple):
    """One row of logits per frame; rows past a clip's last frame are padding."""

    logits: Float[Tensor, "batch frames outputs"]
    num_frames: Int[Tensor, " batch"]


def ctc_sum(
    outputs: FrameLogits, targets: Int[Tensor, "batch characters"], *, blank: int
) -> Float[Tensor, ""]:
    """Negative log likelihoods of the targets in nats, summed over the batch; divide by its characters.

    targets are padded with -1. A clip with fewer frames than data.text.frames_needed makes the sum infinite: such clips
    are rejected before training and not silently skipped (as by torch's zero_infinity).
    """
    log_probabilities = outputs.logits.float().log_softmax(-1).transpose(0, 1)
    return nn.functional.ctc_loss(
        log_probabilities,
        targets.clamp(min=0).long(),
        outputs.num_frames,
        (targets >= 0).sum(1),
        blank=blank,
        reduction="sum",
    )
