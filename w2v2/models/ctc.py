"""From features at the encoder's cut to the characters of every frame, and the loss that needs no alignment.

Connectionist temporal classification: Graves et al. 2006; on wav2vec 2.0: Baevski et al. 2020, section 3.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from w2v2.config.model import HeadConfig
from w2v2.models.classifier import Classifier, Mlp
from w2v2.models.encoder import Encoder
from w2v2.models.pooling import LayerMix


class FrameLogits(NamedTuple):
    """One row of logits per frame; those of a clip past its own frames mean nothing."""

    logits: Float[Tensor, "batch frames outputs"]
    num_frames: Int[Tensor, " batch"]


class Transcriber(nn.Module):
    """Encoder tail, layer mix and one head on every frame; outputs are the tokens of a vocabulary."""

    def __init__(self, encoder: Encoder, head: HeadConfig, *, num_outputs: int, blank: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_outputs = num_outputs
        self.blank = blank
        side_by_side = len(encoder.states) if encoder.config.layer == "concat" else 1
        self.mix = LayerMix(len(encoder.states)) if encoder.config.layer == "mix" else None
        self.head = Mlp(side_by_side * encoder.dim, num_outputs, head)

    def forward(self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]) -> FrameLogits:
        """Logits of every frame; those of a clip do not depend on the others of its batch."""
        states, num_frames = self.encoder(features, lengths)
        if self.mix is not None:
            states = self.mix(states)
        return FrameLogits(self.head(states.flatten(2)), num_frames)


SpeechModel = Classifier | Transcriber
"""What a fine-tuning trains."""


def ctc_sum(
    outputs: FrameLogits, targets: Int[Tensor, "batch characters"], *, blank: int
) -> Float[Tensor, ""]:
    """Negative log likelihoods of the targets in nats, summed over the batch; divide by its characters.

    targets have -1 behind their ends. A clip with fewer frames than data.text.frames_needed makes the sum
    infinite: such clips are rejected before training, not silently passed over (torch's zero_infinity).
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
