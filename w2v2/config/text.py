"""Settings of transcripts: how text is read before it is learned or scored."""

from dataclasses import dataclass
from typing import Literal

from w2v2.config.checks import fraction
from w2v2.config.data import AudioConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How a transcript is normalised (nothing else is changed) and which characters a model can write."""

    unicode: Literal["NFC", "NFKC", "NFD", "keep"] = "NFC"
    """Unicode normalisation form: NFC makes one character of a letter and its accent where there is one; NFKC
    also rewrites characters such as ligatures and full-width letters; keep changes nothing."""
    case: Literal["keep", "lower", "upper"] = "keep"
    """lower or upper writes all letters in one case, as str.lower and str.upper do."""
    drop_chars: str = ""
    """Characters that are left out, such as '.,?!'."""
    space_chars: str = ""
    """Characters that separate words, in addition to white space, such as a hyphen or the zero-width space of Khmer; each
    is read as a space."""
    spaces: bool = True
    """Whether spaces separate words. false is for scripts without spaces: all white space and space_chars are
    left out, and no word error rate is defined."""
    word_delimiter: str = "|"
    """The output that is read as a space; the text itself may not have this character."""
    vocab: Literal["train", "model"] = "train"
    """The characters that a model can write: train takes the characters of the training split; model takes the
    vocabulary of the CTC model in encoder.name, and keeps its output layer."""
    max_unknown_fraction: float = 0.0
    """vocab=model: the job stops when a larger fraction of the training characters is not in the model's
    vocabulary; up to it they are left out of what is learned."""
    keep_empty: bool = False
    """Whether a clip without text teaches silence; else it is rejected."""

    def __post_init__(self) -> None:
        fraction("text", self, "max_unknown_fraction")
        if len(self.word_delimiter) != 1 or self.word_delimiter.isspace():
            raise UserError(
                f"text.word_delimiter must be one character that is no white space, got {self.word_delimiter!r}"
            )
        if both := sorted(set(self.drop_chars) & set(self.space_chars)):
            raise UserError(
                f"text.drop_chars and text.space_chars both have {both[0]!r}: leave it out or read it as a space"
            )


FIRST_TEXT_FIELDS = (
    "unicode", "case", "drop_chars", "space_chars", "spaces", "word_delimiter", "vocab", "max_unknown_fraction", "keep_empty",
)  # fmt: skip
"""The fields of TextConfig, in order, when digests of models began to hash them."""


def check_transcripts(encoder: EncoderConfig, head: HeadConfig, text: TextConfig, audio: AudioConfig) -> None:
    """Raises UserError for settings that transcripts cannot have."""
    if encoder.pooling not in ("mean", "none"):
        raise UserError(
            f"encoder.pooling makes one vector per clip, and task.kind=transcript needs every frame, got "
            f"{encoder.pooling}: leave it out"
        )
    if text.vocab == "model" and (head.widths or encoder.layer != "last"):
        raise UserError(
            "text.vocab=model keeps the output layer of a CTC model, which is one linear layer on the last hidden "
            f"state: leave out head.widths and encoder.layer, got {list(head.widths)} and {encoder.layer}"
        )
    if head.joined:
        raise UserError(
            "head.joined has features of whole clips, and task.kind=transcript needs every frame: leave it out"
        )
    for name in ("crop_s", "fixed_s"):
        if getattr(audio, name):
            raise UserError(
                f"audio.{name} cuts audio but not its transcript, got task.kind=transcript: leave it out, or cut "
                "long recordings at pauses and give the pieces as clips"
            )
