"""A saved model as a function of one clip's waveform, which can be exported: without masks, batches or choices of device."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from w2v2.errors import UserError
from w2v2.models.ctc import SpeechModel, Transcriber
from w2v2.models.cut import Cut
from w2v2.models.saved_model import SavedModel


def output_names(saved: SavedModel) -> tuple[str, ...]:
    """The names of the outputs of a OneClip. An ensemble has no logits, because logits have no average."""
    match saved.info.kind:
        case "transcript":
            return ("log_probabilities",)
        case "regression":
            return ("values",)
        case _:
            return ("probabilities",) if saved.others else ("logits", "probabilities")


def refuse_unexportable(uri: str, saved: SavedModel) -> None:
    """Raises UserError for a model whose input is more than a waveform: a graph has only a waveform and weights."""
    encoder = saved.model.encoder
    if encoder.extractor is not None:
        raise UserError(
            f"model {uri!r} has a {encoder.model.config.model_type} encoder, whose spectra are made by transformers' feature "
            "extractor and not by a graph: only encoders of waveforms, such as wav2vec2, HuBERT and WavLM, are exported"
        )
    if saved.info.num_descriptors:
        raise UserError(
            f"model {uri!r} joins hand-made features ({', '.join(saved.info.head.joined)}), which no graph computes: train "
            "one without head.joined to export it"
        )


class OneClip(nn.Module):
    """A function of a waveform [1, samples] at the encoder's rate that returns the outputs of `output_names`.

    Takes over the modules of the saved model and changes them: nothing is masked, as nothing is padding. Outputs have the
    shape [1, outputs]; for transcripts [1, frames, outputs].
    """

    def __init__(self, saved: SavedModel) -> None:
        super().__init__()
        self.info = saved.info
        self.gives_logits = "logits" in output_names(saved)
        self.members = nn.ModuleList([saved.model, *saved.others]).cpu().eval()
        for member in self.members:
            encoder: Any = member.encoder
            encoder.alone, encoder.cut = True, Cut(stage="conv")
            _make_plain(encoder.model)

    def forward(self, waveform: Float[Tensor, "one samples"]) -> tuple[Float[Tensor, "one ..."], ...]:
        """The outputs of one clip."""
        samples = _normalized(waveform) if self.info.normalize else waveform
        raw = [_raw(member, samples) for member in self.members]  # type: ignore[arg-type]
        match self.info.kind:
            case "classes":
                by_member = [logits.softmax(-1) for logits in raw]
            case "multi_label":
                by_member = [logits.sigmoid() for logits in raw]
            case "regression":
                by_member = raw
            case "transcript":
                by_member = [logits.log_softmax(-1) for logits in raw]
        average = torch.stack(by_member).mean(0) if len(by_member) > 1 else by_member[0]
        return (raw[0], average) if self.gives_logits else (average,)


def _raw(model: SpeechModel, samples: Float[Tensor, "one samples"]) -> Float[Tensor, "one ..."]:
    """Logits, or the values of a regression."""
    # The convolutions of transformers: Encoder's own have weights that differ from clip to clip, which a graph cannot have.
    frames = model.encoder.model.feature_extractor(samples).transpose(1, 2)
    num_frames = torch.full((1,), frames.shape[1], dtype=torch.long)
    if isinstance(model, Transcriber):
        return model(frames, num_frames).logits
    return model(frames, num_frames)


def _normalized(waveform: Float[Tensor, "one samples"]) -> Float[Tensor, "one samples"]:
    """The waveform at zero mean and unit variance, as audio.waveforms.normalized computes it."""
    wide = waveform.double()
    centred = wide - wide.mean(1, keepdim=True)
    return (centred / (centred.square().mean(1, keepdim=True) + 1e-7).sqrt()).float()


def _make_plain(model: nn.Module) -> None:
    """Make linear layers torch's own again and merge weight normalisation into weights; the outputs stay."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.__class__ = nn.Linear
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
