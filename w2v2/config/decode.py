"""Settings of decoding: how the text of a transcript is found in the probabilities of its frames."""

from dataclasses import dataclass
from typing import Literal

from w2v2.config.checks import at_least
from w2v2.config.digest import changed
from w2v2.errors import UserError

LM_WORDS = "lm"
"""decode.lexicon: the words of the language model."""


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """Greedy decoding, or a beam search with an n-gram language model (needs flashlight-text, the extra asr)."""

    kind: Literal["greedy", "beam"] = "greedy"
    """greedy: the likeliest output of every frame; beam: the text with the highest sum of acoustic score, lm_weight
    times language model score, and word_score for each word."""
    lm: str = ""
    """beam: the language model, an ARPA file (or one of KenLM's binaries), local or gs://. In evaluate and predict
    empty is the one that the model folder keeps, with its lexicon and weights."""
    lexicon: str = ""
    """beam: the words that can be written: lm for all words of an ARPA file of words, or a file with a word on each
    line, local or gs://. Empty writes any characters, and the ARPA file is one of characters, in which the
    token of a space is text.word_delimiter."""
    lm_weight: float | None = None
    """beam: weight of the language model's log10 probabilities; None is tuned on the val split by finetune."""
    word_score: float | None = None
    """beam with a lexicon: added for each word, so that many short words are not worse than a long one; None is tuned
    on the val split by finetune."""
    beam_size: int = 50
    """beam: how many partial texts are kept at each frame."""

    def __post_init__(self) -> None:
        at_least("decode", self, 1, "beam_size")
        if self.lm_weight is not None:
            at_least("decode", self, 0, "lm_weight")
        if self.kind == "greedy" and (fields := list(changed(self))):
            raise UserError(f"decode.{fields[0]} is for decode.kind=beam, got decode.kind=greedy")
        if self.word_score and not self.lexicon:
            raise UserError(
                "decode.word_score is for a decode.lexicon: without one the search counts no words; leave it out"
            )

    @property
    def is_open(self) -> bool:
        """Whether a weight is still to be tuned."""
        return self.lm_weight is None or (bool(self.lexicon) and self.word_score is None)
