"""Transcripts: normalised text, and text as numbers of a vocabulary of single characters."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from w2v2.config.data import SPLITS
from w2v2.config.text import TextConfig
from w2v2.errors import UserError
from w2v2.wording import listed

BLANK = "<pad>"
"""The token of CTC's blank: in transformers it is the padding token."""
NUM_LISTED = 20


def normalize(text: str, config: TextConfig) -> str:
    """The normalised text, which is learned and scored: Unicode form, dropped characters, single spaces, case.

    The steps in this order: unicode, drop_chars, space_chars and white space, case. A change of case can undo
    a Unicode form (the lower case of Turkish \u0130 is two code points), so the form is applied after it, too.
    """
    text = _in_form(text, config)
    dropped, parting = (_characters(chars, config) for chars in (config.drop_chars, config.space_chars))
    kept = "".join(" " if char in parting else char for char in text if char not in dropped)
    kept = (" " if config.spaces else "").join(kept.split())
    match config.case:
        case "lower":
            return _in_form(kept.lower(), config)
        case "upper":
            return _in_form(kept.upper(), config)
        case "keep":
            return kept


def _in_form(text: str, config: TextConfig) -> str:
    return text if config.unicode == "keep" else unicodedata.normalize(config.unicode, text)


def _characters(chars: str, config: TextConfig) -> set[str]:
    """The characters of a setting, in the same Unicode form as the text."""
    return set(_in_form(chars, config) if config.unicode in ("NFC", "NFKC") else chars)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The outputs of a CTC model: single characters, the word delimiter, the blank and further special tokens."""

    tokens: tuple[str, ...]
    """Output number to token."""
    blank: int
    """The number of CTC's blank."""
    word_delimiter: str | None
    """The token that is read as a space; None where words are not separated."""
    special: tuple[str, ...] = ()
    """Other tokens that write no text, such as <s>."""

    def __post_init__(self) -> None:
        skipped = {*self.special, self.tokens[self.blank]}
        if long := [token for token in self.tokens if len(token) != 1 and token not in skipped]:
            raise UserError(
                f"the vocabulary has tokens of several characters, such as {long[0]!r}: wanted single characters"
            )

    @property
    def characters(self) -> tuple[str, ...]:
        """The character that each output writes; '' for the blank and special tokens."""
        skipped = {*self.special, self.tokens[self.blank]}
        return tuple(
            "" if token in skipped else " " if token == self.word_delimiter else token
            for token in self.tokens
        )

    def to_json(self) -> str:
        """The text of vocab.json: tokens with their numbers."""
        numbers = {token: number for number, token in enumerate(self.tokens)}
        return json.dumps(numbers, ensure_ascii=False, indent=2) + "\n"

    def encode(self, text: str) -> Int[np.ndarray, " characters"]:
        """The numbers of the characters of a normalised text; characters that the vocabulary lacks are left out."""
        numbers = self._numbers
        return np.array([numbers[char] for char in text if char in numbers], np.int32)

    def unknown(self, text: str) -> Counter[str]:
        """Counts of the characters of the text that this vocabulary lacks."""
        numbers = self._numbers
        return Counter(char for char in text if char not in numbers)

    @property
    def _numbers(self) -> Mapping[str, int]:
        return {char: number for number, char in enumerate(self.characters) if char}


def vocabulary_of(texts: Iterable[str], config: TextConfig) -> Vocabulary:
    """The vocabulary of normalised training texts: the blank, the word delimiter, then characters in order.

    Raises UserError where a text has the word delimiter as a character of its own.
    """
    counts = Counter(char for text in texts for char in text)
    characters = sorted(set(counts) - {" "})
    if config.spaces and config.word_delimiter in characters:
        raise UserError(
            f"{counts[config.word_delimiter]} characters of the training text are {config.word_delimiter!r}, which "
            "text.word_delimiter uses for spaces: leave it out with --text.drop_chars, read it as a space with "
            "--text.space_chars, or choose another --text.word_delimiter"
        )
    delimiter = config.word_delimiter if config.spaces else None
    tokens = (BLANK, *([delimiter] if delimiter else []), *characters)
    return Vocabulary(tokens=tokens, blank=0, word_delimiter=delimiter)


def frames_needed(text: str) -> int:
    """The fewest frames from which CTC can write the text: one per character, and a blank between two equal ones.

    Graves et al. 2006, section 3: a path repeats a label only across a blank. Characters that the vocabulary lacks
    are not written and can only lower the number.

    >>> frames_needed("hello")
    6
    """
    return len(text) + sum(before == char for before, char in pairwise(text))


def padded_targets(texts: Sequence[str], vocabulary: Vocabulary) -> Int[np.ndarray, "clips characters"]:
    """The numbers of each text in a row, padded with -1."""
    rows = [vocabulary.encode(text) for text in texts]
    padded = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
    for row, numbers in zip(padded, rows, strict=True):
        row[: len(numbers)] = numbers
    return padded


def character_table(texts: Sequence[str], splits: Sequence[str], vocabulary: Vocabulary) -> pa.Table:
    """Each character of the texts: its code point and name, how often each split has it, and whether it can be written."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for text, split in zip(texts, splits, strict=True):
        counts.setdefault(split, Counter()).update(text)
    in_vocabulary = set(vocabulary.characters)
    characters = {char for counter in counts.values() for char in counter} | in_vocabulary - {""}
    rows: list[dict[str, object]] = [
        {
            "character": char,
            "code_point": f"U+{ord(char):04X}",
            "name": unicodedata.name(char, "unnamed"),
            **{f"num_{split}": counter[char] for split, counter in counts.items()},
            "in_vocabulary": char in in_vocabulary,
        }
        for char in sorted(characters)
    ]
    return pa.Table.from_pylist(rows)


def listed_characters(counts: Mapping[str, int]) -> str:
    """The twenty most frequent characters, each with its code point and count, as text."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return listed([f"{char!r} U+{ord(char):04X} ({n})" for char, n in ordered], num_shown=NUM_LISTED)
