"""Transcripts as normalised text and as numbers of a vocabulary."""

import unicodedata

import numpy as np
import pytest

from w2v2.config.text import TextConfig
from w2v2.data.text import (
    Vocabulary,
    character_table,
    frames_needed,
    listed_characters,
    normalize,
    padded_targets,
    vocabulary_of,
)
from w2v2.errors import UserError

VIETNAMESE = "Tiếng Việt"


def written(vocabulary, numbers):
    return "".join(vocabulary.characters[number] for number in numbers)


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({}, "  Dogs  are\ttalking.\n", "Dogs are talking."),
        ({"case": "lower", "drop_chars": ".,"}, "Dogs, kids.", "dogs kids"),
        ({"case": "upper"}, "straße", "STRASSE"),
        ({}, unicodedata.normalize("NFD", VIETNAMESE), VIETNAMESE),
        ({"unicode": "NFD"}, "é", "e\u0301"),
        ({"unicode": "keep"}, "e\u0301", "e\u0301"),
        ({}, "½", "½"),
        ({"unicode": "NFKC"}, "½", "1\u20442"),
        ({"case": "lower"}, "\u0130", unicodedata.normalize("NFC", "\u0130".lower())),
        ({"space_chars": "\u200b-"}, "ខ្ញុំ\u200bទៅ well-known", "ខ្ញុំ ទៅ well known"),
        ({"spaces": False, "space_chars": "\u200b"}, "ខ្ញុំ\u200bទៅ ផ្សារ", "ខ្ញុំទៅផ្សារ"),
        # An accent written as two code points in a setting is one character; the letter itself stays.
        ({"drop_chars": "e\u0301"}, "café table", "caf table"),
        ({"drop_chars": "."}, "...", ""),
    ],
)
def test_normalize_changes_just_what_the_settings_say(settings, text, expected):
    config = TextConfig(**settings)
    assert normalize(text, config) == expected
    assert normalize(expected, config) == expected


def test_a_vocabulary_is_of_the_training_text_alone_and_decodes_what_it_encodes():
    vocabulary = vocabulary_of(["kids by the door", "dogs"], TextConfig())
    assert vocabulary.tokens == ("<pad>", "|", *sorted(set("kidsbythedoorg")))
    numbers = vocabulary.encode("the door")
    assert written(vocabulary, numbers) == "the door"
    assert vocabulary.unknown("the quick fox") == {"q": 1, "u": 1, "c": 1, "f": 1, "x": 1}
    assert written(vocabulary, vocabulary.encode("the quick")) == "the ik"


def test_without_spaces_there_is_no_word_delimiter_and_the_bar_is_a_character_like_others():
    vocabulary = vocabulary_of(["ab|"], TextConfig(spaces=False))
    assert vocabulary.tokens == ("<pad>", "a", "b", "|")
    assert written(vocabulary, vocabulary.encode("a|b")) == "a|b"


def test_a_bar_in_the_text_would_be_read_as_a_space_and_is_refused():
    with pytest.raises(UserError, match=r"2 characters of the training text are '\|', which"):
        vocabulary_of(["एक | दो |"], TextConfig())
    assert "|" in vocabulary_of(["एक | दो |"], TextConfig(word_delimiter="_")).tokens


def test_tokens_of_several_characters_are_refused():
    with pytest.raises(UserError, match="tokens of several characters, such as 'ab'"):
        Vocabulary(tokens=("<pad>", "a", "ab"), blank=0, word_delimiter=None)
    special = Vocabulary(tokens=("<pad>", "<s>", "a"), blank=0, word_delimiter=None, special=("<s>",))
    assert written(special, [1, 2, 0]) == "a"


@pytest.mark.parametrize(
    ("text", "needed"), [("", 0), ("a", 1), ("ab", 2), ("aab", 4), ("aaa", 5), ("abba", 5)]
)
def test_frames_needed_are_the_fewest_for_which_the_loss_is_finite(text, needed):
    import torch

    numbers = vocabulary_of(["ab"], TextConfig()).encode(text)
    assert frames_needed(text) == needed
    for num_frames in (needed, needed - 1):
        if num_frames < 1:
            continue
        loss = torch.nn.functional.ctc_loss(
            torch.zeros(num_frames, 1, 4).log_softmax(-1),
            torch.tensor(numbers)[None].long(),
            torch.tensor([num_frames]),
            torch.tensor([len(numbers)]),
            reduction="sum",
        )
        assert bool(torch.isfinite(loss)) == (num_frames >= needed)


def test_padded_targets_have_minus_one_behind_each_end():
    vocabulary = vocabulary_of(["ab"], TextConfig(spaces=False))
    np.testing.assert_array_equal(padded_targets(["ab", "", "b"], vocabulary), [[1, 2], [-1, -1], [2, -1]])


def test_the_table_of_characters_counts_by_split_and_names_what_cannot_be_written():
    vocabulary = vocabulary_of(["ab"], TextConfig())
    rows = character_table(["ab", "aé"], ["train", "test"], vocabulary).to_pylist()
    by_character = {row["character"]: row for row in rows}
    assert (by_character["a"]["num_train"], by_character["a"]["num_test"], by_character["a"]["num_val"]) == (
        1,
        1,
        0,
    )
    assert not by_character["é"]["in_vocabulary"]
    assert by_character["é"]["name"] == "LATIN SMALL LETTER E WITH ACUTE"
    assert listed_characters({"é": 3, "a": 4}) == "'a' U+0061 (4), 'é' U+00E9 (3)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"word_delimiter": "||"}, "text.word_delimiter must be one character"),
        ({"word_delimiter": " "}, "text.word_delimiter must be one character"),
        ({"drop_chars": "-.", "space_chars": "-"}, "both have '-'"),
        ({"max_unknown_fraction": 1.0}, r"must be in \[0, 1\)"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        TextConfig(**settings)
