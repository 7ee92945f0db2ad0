"""Beam search for the most probable text under frame probabilities and an n-gram language model, by flashlight-text.

flashlight-text (the extra asr; Collobert et al. 2016, Kahn et al. 2022) has KenLM (Heafield 2011) in its wheels.
"""

import importlib.util
import itertools
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from w2v2.config.decode import LM_WORDS, DecodeConfig
from w2v2.data.text import Vocabulary
from w2v2.errors import UserError

if TYPE_CHECKING:
    from flashlight.lib.text.decoder import DecodeResult, LexiconDecoder, LexiconFreeDecoder, Trie
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

logger = logging.getLogger(__name__)

IMPOSSIBLE = -1e9
"""Log probability of an impossible output; flashlight cannot add infinite ones."""
THRESHOLD = 50.0
"""Partial texts that are less likely than the best by more than this (in nats) are dropped."""
UNKNOWN = "<unk>"
NO_WORDS = {"<s>", "</s>", UNKNOWN, "<UNK>"}
"""Entries of an ARPA file that are no words."""


def check_installed() -> None:
    """Raises UserError where flashlight-text is not installed."""
    if importlib.util.find_spec("flashlight") is None:
        where = " with Python 3.12 or 3.11, for which it is built" if sys.version_info >= (3, 13) else ""
        raise UserError(f"decode.kind=beam needs the package flashlight-text: pip install -e '.[asr]'{where}")


class LanguageModel:
    """An n-gram model of words with a lexicon, or of the characters of a vocabulary; read once, searched with many weights."""

    def __init__(self, vocabulary: Vocabulary, *, lm: Path, words: Sequence[str] | None) -> None:
        """Read an ARPA file; words are the lexicon, None for a model of characters.

        Raises UserError where the file cannot be read, or where no word can be written with the vocabulary.
        """
        check_installed()
        from flashlight.lib.text.dictionary import Dictionary

        self.vocabulary = vocabulary
        self.words: list[str] | None = None
        names = list(vocabulary.tokens)
        if words is not None:
            if vocabulary.word_delimiter is None:
                raise UserError(
                    "decode.lexicon has words, and this model writes a script without spaces: leave it out and give an ARPA "
                    "file of characters"
                )
            self.words = _writable(words, vocabulary)
            names = [*self.words, UNKNOWN]
        self.lm = _kenlm(lm, Dictionary(names))
        self.trie = None if self.words is None else self._trie(self.words)

    def _trie(self, words: Sequence[str]) -> "Trie":
        """The spellings of the words, each with the word delimiter at its end."""
        from flashlight.lib.text.decoder import SmearingMode, Trie

        trie = Trie(len(self.vocabulary.tokens), self.delimiter)
        start = self.lm.start(False)
        for number, word in enumerate(words):
            spelling = [*self.vocabulary.encode(word).tolist(), self.delimiter]
            trie.insert(spelling, number, self.lm.score(start, number)[1])
        trie.smear(SmearingMode.MAX)
        return trie

    @property
    def delimiter(self) -> int:
        """The output that separates words; the blank if words are not separated."""
        if self.vocabulary.word_delimiter is None:
            return self.vocabulary.blank
        return self.vocabulary.tokens.index(self.vocabulary.word_delimiter)


class BeamSearch:
    """A search with some weights; the language model is shared."""

    def __init__(self, lm: LanguageModel, decode: DecodeConfig) -> None:
        self._lm = lm
        self._decoder = _lexicon_free(lm, decode) if lm.words is None else _with_lexicon(lm, decode)

    def labels(self, log_probabilities: Float[np.ndarray, "frames outputs"]) -> Int[np.ndarray, " labels"]:
        """The labels of the text with the best score."""
        scores = self.scores(log_probabilities)
        best = max(scores, key=lambda text: (scores[text], text), default="")
        return self._lm.vocabulary.encode(best)

    def scores(self, log_probabilities: Float[np.ndarray, "frames outputs"]) -> dict[str, float]:
        """The scores in nats of the texts in the final beam.

        A score is the log of the sum over the paths that write the text (Graves et al. 2006, section 3.2), with
        lm_weight times the log10 probability of the text and word_score for each of its words.
        """
        emissions = self._emissions(log_probabilities)
        scores: dict[str, float] = {}
        for hypothesis in self._decoder.decode(emissions.ctypes.data, *emissions.shape):
            text = self._text(hypothesis)
            scores[text] = float(np.logaddexp(scores.get(text, -np.inf), hypothesis.score))
        return scores

    def _text(self, hypothesis: "DecodeResult") -> str:
        if self._lm.words is not None:
            return " ".join(self._lm.words[number] for number in hypothesis.words if number >= 0)
        characters = self._lm.vocabulary.characters
        written = "".join(
            characters[label] for label, _ in itertools.groupby(hypothesis.tokens) if label >= 0
        )
        return " ".join(written.split())

    def _emissions(
        self, log_probabilities: Float[np.ndarray, "frames outputs"]
    ) -> Float[np.ndarray, "_ outputs"]:
        """The frames, with one more at each end and without the outputs of special tokens.

        The search begins as if after a space, so a blank is put first; with a lexicon every word ends with a space,
        including the last one.
        """
        vocabulary = self._lm.vocabulary
        silent = [n for n, char in enumerate(vocabulary.characters) if not char and n != vocabulary.blank]
        edges = np.full((2, log_probabilities.shape[1]), IMPOSSIBLE, np.float32)
        edges[0, vocabulary.blank] = 0.0
        edges[1, vocabulary.blank if self._lm.words is None else self._lm.delimiter] = 0.0
        rows = np.maximum(log_probabilities.astype(np.float32), IMPOSSIBLE)
        rows[:, silent] = IMPOSSIBLE
        return np.ascontiguousarray(np.concatenate([edges[:1], rows, edges[1:]]))


def _lexicon_free(lm: LanguageModel, decode: DecodeConfig) -> "LexiconFreeDecoder":
    from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions

    options = LexiconFreeDecoderOptions(
        beam_size=decode.beam_size,
        beam_size_token=len(lm.vocabulary.tokens),
        beam_threshold=THRESHOLD,
        lm_weight=decode.lm_weight,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    return LexiconFreeDecoder(options, lm.lm, lm.delimiter, lm.vocabulary.blank, [])


def _with_lexicon(lm: LanguageModel, decode: DecodeConfig) -> "LexiconDecoder":
    from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions

    assert lm.words is not None
    options = LexiconDecoderOptions(
        beam_size=decode.beam_size,
        beam_size_token=len(lm.vocabulary.tokens),
        beam_threshold=THRESHOLD,
        lm_weight=decode.lm_weight,
        word_score=decode.word_score,
        unk_score=-math.inf,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    unknown, is_token_lm = len(lm.words), False
    return LexiconDecoder(
        options, lm.trie, lm.lm, lm.delimiter, lm.vocabulary.blank, unknown, [], is_token_lm
    )


def _kenlm(place: Path, names: "Dictionary") -> "KenLM":
    from flashlight.lib.text.decoder.kenlm import KenLM

    try:
        return KenLM(str(place), names)
    except RuntimeError as error:
        raise UserError(
            f"decode.lm {place.name} cannot be read ({str(error).splitlines()[-1][-200:]}): wanted an ARPA file"
        ) from error


def read_words(lexicon: str, *, lm: Path, lexicon_file: Path | None) -> list[str] | None:
    """The lexicon that decode.lexicon names: the words of an ARPA file or of a file of words; None without one."""
    if not lexicon:
        return None
    if lexicon == LM_WORDS:
        return list(arpa_words(lm))
    assert lexicon_file is not None
    return lexicon_file.read_text(encoding="utf-8").split()


def arpa_words(place: Path) -> Iterator[str]:
    """The words of an ARPA file; raises UserError where it is none."""
    in_section = False
    try:
        with place.open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("\\"):
                    if in_section:
                        return
                    in_section = line.strip() == "\\1-grams:"
                elif in_section and line.strip():
                    word = line.split("\t")[1].strip() if "\t" in line else line.split()[1]
                    if word not in NO_WORDS:
                        yield word
    except (UnicodeDecodeError, IndexError):
        in_section = False
    if not in_section:
        raise UserError(
            f"decode.lm {place.name} has no section \\1-grams: wanted an ARPA file in UTF-8, or give --decode.lexicon a file "
            "with a word on each line"
        )


def _writable(words: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """The different words that the vocabulary can write, in order."""
    kept = [word for word in dict.fromkeys(words) if word and not vocabulary.unknown(word)]
    lost = [word for word in dict.fromkeys(words) if vocabulary.unknown(word)]
    if not kept:
        raise UserError(
            f"decode.lexicon: none of {len(lost)} words, such as {lost[:3]}, can be written with the model's characters: "
            "write them as the transcripts are normalised (text.case, text.drop_chars)"
        )
    if lost:
        logger.warning(
            "decode.lexicon: %d of %d words, such as %s, have characters that the model cannot write: left out",
            len(lost),
            len(lost) + len(kept),
            lost[:3],
        )
    return kept
