"""The beam search against the enumeration of all paths, with language model scores by the tests' own ARPA parser."""

import itertools

import numpy as np
import pytest

pytest.importorskip("flashlight", reason="the extra asr is not installed")

from tests.made.arpa import log10_probability, write_arpa
from w2v2.config.decode import DecodeConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import Vocabulary, vocabulary_of
from w2v2.errors import UserError
from w2v2.models.beam_search import BeamSearch, LanguageModel, arpa_words
from w2v2.models.probabilities import log_softmax

VOCABULARY = vocabulary_of(["ab"], TextConfig())  # <pad> | a b
WORDS = {
    ("<unk>",): (-2.5, 0.0),
    ("<s>",): (-99.0, -0.3),
    ("</s>",): (-0.9, 0.0),
    ("a",): (-0.7, -0.2),
    ("ab",): (-0.5, -0.4),
    ("bb",): (-1.1, 0.0),
    ("<s>", "ab"): (-0.2, -0.1),
    ("a", "ab"): (-0.6, 0.0),
    ("ab", "a"): (-0.8, -0.1),
    ("ab", "</s>"): (-0.3, 0.0),
    ("<s>", "ab", "a"): (-0.15, 0.0),
}
CHARACTERS = {
    ("<unk>",): (-3.0, 0.0),
    ("<s>",): (-99.0, -0.3),
    ("</s>",): (-1.2, 0.0),
    ("a",): (-0.6, -0.2),
    ("b",): (-0.8, -0.4),
    ("|",): (-0.9, -0.1),
    ("<s>", "a"): (-0.2, 0.0),
    ("a", "b"): (-0.25, 0.0),
    ("b", "|"): (-0.4, 0.0),
}


def draws(num, *, frames=6, outputs=4, sharpness=2.0):
    rng = np.random.default_rng(7)
    return [
        log_softmax((sharpness * rng.normal(size=(frames, outputs))).astype(np.float32)) for _ in range(num)
    ]


def enumerated(log_probabilities, vocabulary, score):
    """The score of every text: the log of the sum over all paths; score(labels) adds to that of a sequence of labels."""
    texts = {}
    for path in itertools.product(range(log_probabilities.shape[1]), repeat=len(log_probabilities)):
        labels = [label for label, _ in itertools.groupby(path) if label != vocabulary.blank]
        more = score(labels)
        if more is None:
            continue
        text = " ".join("".join(vocabulary.characters[label] for label in labels).split())
        path_score = float(log_probabilities[range(len(path)), path].sum()) + more
        texts[text] = np.logaddexp(texts.get(text, -np.inf), path_score)
    return texts


def decoded(search, log_probabilities):
    return "".join(VOCABULARY.characters[label] for label in search.labels(log_probabilities))


@pytest.mark.parametrize(("lm_weight", "word_score"), [(0.0, 0.0), (1.5, 0.0), (3.0, 1.0), (0.7, -1.5)])
def test_with_a_lexicon_every_score_is_that_of_all_paths(tmp_path, lm_weight, word_score):
    place = write_arpa(tmp_path / "words.arpa", WORDS)
    words = list(arpa_words(place))
    assert words == ["a", "ab", "bb"]
    lm = LanguageModel(VOCABULARY, lm=place, words=words)
    decode = DecodeConfig(
        kind="beam",
        lm=str(place),
        lexicon="lm",
        lm_weight=lm_weight,
        word_score=word_score,
        beam_size=10_000,
    )
    search = BeamSearch(lm, decode)

    def score(labels):
        written = "".join(VOCABULARY.characters[label] for label in labels).split()
        if not set(written) <= set(words):
            return None
        return lm_weight * log10_probability(WORDS, written) + word_score * len(written)

    for log_probabilities in draws(6):
        expected = enumerated(log_probabilities, VOCABULARY, score)
        scores = search.scores(log_probabilities)
        # Words that are cut by the end of the clip leave what is before them, too, and are nowhere near.
        assert {text: one for text, one in scores.items() if one > -1e6} == pytest.approx(expected, abs=1e-3)
        assert decoded(search, log_probabilities) == max(expected, key=expected.get)


@pytest.mark.parametrize("lm_weight", [0.0, 1.0, 2.5])
def test_without_a_lexicon_every_score_is_that_of_all_paths(tmp_path, lm_weight):
    place = write_arpa(tmp_path / "characters.arpa", CHARACTERS)
    lm = LanguageModel(VOCABULARY, lm=place, words=None)
    search = BeamSearch(lm, DecodeConfig(kind="beam", lm=str(place), lm_weight=lm_weight, beam_size=10_000))

    def score(labels):
        return lm_weight * log10_probability(CHARACTERS, [VOCABULARY.tokens[label] for label in labels])

    for log_probabilities in draws(6):
        expected = enumerated(log_probabilities, VOCABULARY, score)
        assert search.scores(log_probabilities) == pytest.approx(expected, abs=1e-3)
        assert decoded(search, log_probabilities) == max(expected, key=expected.get)


def test_a_script_without_spaces_and_outputs_that_write_nothing(tmp_path):
    vocabulary = Vocabulary(
        tokens=("<s>", "\u1780", "<pad>", "\u1781"), blank=2, word_delimiter=None, special=("<s>",)
    )
    ngrams = {("<unk>",): (-3.0, 0.0), ("<s>",): (-99.0, 0.0), ("</s>",): (-1.0, 0.0)}
    ngrams |= {("\u1780",): (-0.3, -0.2), ("\u1781",): (-0.9, 0.0), ("\u1780", "\u1781"): (-0.1, 0.0)}
    place = write_arpa(tmp_path / "khmer.arpa", ngrams)
    lm = LanguageModel(vocabulary, lm=place, words=None)
    search = BeamSearch(lm, DecodeConfig(kind="beam", lm=str(place), lm_weight=1.0, beam_size=10_000))

    def score(labels):
        if 0 in labels:
            return None
        return log10_probability(ngrams, [vocabulary.tokens[label] for label in labels])

    for log_probabilities in draws(4):
        expected = enumerated(log_probabilities, vocabulary, score)
        assert search.scores(log_probabilities) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(UserError, match="writes a script without spaces"):
        LanguageModel(vocabulary, lm=place, words=["\u1780"])


def test_the_language_model_decides_between_words_that_sound_alike(tmp_path):
    place = write_arpa(tmp_path / "words.arpa", WORDS)
    lm = LanguageModel(VOCABULARY, lm=place, words=["ab", "bb"])
    frames = np.log(np.array([[0.02, 0.02, 0.47, 0.49], [0.02, 0.02, 0.02, 0.94]], np.float32))
    frames = np.concatenate([frames, np.log([[0.97, 0.01, 0.01, 0.01]]), frames[1:]]).astype(np.float32)

    def text(lm_weight):
        config = DecodeConfig(kind="beam", lm="x", lexicon="lm", lm_weight=lm_weight, word_score=0.0)
        return decoded(BeamSearch(lm, config), frames[[0, 2, 1]])

    assert (text(0.0), text(1.0)) == ("bb", "ab")


def test_the_independent_scores_are_those_by_hand():
    assert log10_probability(WORDS, ["ab"]) == pytest.approx(-0.2 - 0.1 - 0.3)  # backs off from "<s> ab"
    assert log10_probability(WORDS, ["bb", "zz"]) == pytest.approx(-0.3 - 1.1 - 2.5 - 0.9)


def test_files_and_words_that_cannot_be_used(tmp_path):
    bad = tmp_path / "bad.arpa"
    bad.write_text("no model")
    with pytest.raises(UserError, match=r"decode.lm bad.arpa cannot be read \(.*wanted an ARPA file"):
        LanguageModel(VOCABULARY, lm=bad, words=None)
    with pytest.raises(UserError, match=r"bad.arpa has no section .1-grams:"):
        list(arpa_words(bad))
    place = write_arpa(tmp_path / "words.arpa", WORDS)
    with pytest.raises(UserError, match=r"none of 1 words, such as \['AB'\], can be written"):
        LanguageModel(VOCABULARY, lm=place, words=["AB"])
    assert LanguageModel(VOCABULARY, lm=place, words=["AB", "ab", "ab"]).words == ["ab"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "greedy", "lm": "x"}, "decode.lm is for decode.kind=beam"),
        ({"kind": "beam", "lm": "x", "word_score": 1.0}, "decode.word_score is for a decode.lexicon"),
        ({"kind": "beam", "lm_weight": -1.0}, "decode.lm_weight must be at least 0"),
        ({"kind": "beam", "beam_size": 0}, "decode.beam_size must be at least 1"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        DecodeConfig(**settings)
