"""The model that computes the characters of every frame from features at the encoder's cut; its loss is in ctc_loss.py.

Connectionist temporal classification: Graves et al. 2006; on wav2vec 2.0: Baevski et al. 2020, section 3.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn

from w2v2.config.model import HeadConfig
from w2v2.errors import UserError
from w2v2.models.classifier import Classifier
from w2v2.models.ctc_loss import FrameLogits
from w2v2.models.encoder import Encoder
from w2v2.models.mlp import Mlp
from w2v2.models.pooling import LayerMix
from w2v2.models.squeezed import SqueezedEncoder


class Transcriber(nn.Module):
    """Encoder tail, layer mix and one head on every frame; outputs are the tokens of a vocabulary."""

    def __init__(self, encoder: Encoder, head: HeadConfig, *, num_outputs: int, blank: int = 0) -> None:
        super().__init__()
        if encoder.extractor is not None:
            raise UserError(
                f"task.kind=transcript is for encoders of waveforms, and {encoder.config.name} takes spectra: give a "
                "wav2vec2, HuBERT or WavLM model"
            )
        if isinstance(encoder, SqueezedEncoder) and not encoder.spreads:
            raise UserError(
                f"task.kind=transcript needs encoder.layer=last with a {encoder.model.config.model_type} model, whose other "
                f"states have too few frames for characters, got encoder.layer={encoder.config.layer}"
            )
        self.encoder = encoder
        self.num_outputs = num_outputs
        self.blank = blank
        side_by_side = len(encoder.states) if encoder.config.layer == "concat" else 1
        self.mix = LayerMix(len(encoder.states)) if encoder.config.layer == "mix" else None
        self.head = Mlp(side_by_side * encoder.dim, num_outputs, head)

    def forward(self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]) -> FrameLogits:
        """Logits of every frame; they do not depend on the other clips of the batch."""
        states, num_frames = self.encoder(features, lengths)
        if self.mix is not None:
            states = self.mix(states)
        return FrameLogits(self.head(states.flatten(2)), num_frames)


SpeechModel = Classifier | Transcriber
"""The models of a fine-tuning."""
