"""Transcripts of the clip table: scripts of the world, empty ones, those too short, and what a vocabulary lacks."""

import csv
import json
import unicodedata
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from transformers import Wav2Vec2CTCTokenizer

from w2v2.config.data import DataConfig
from w2v2.config.text import TextConfig
from w2v2.data import manifest, transcripts
from w2v2.data.rejects import REJECTS
from w2v2.data.text import vocabulary_of
from w2v2.errors import Reject, UserError
from w2v2.models.counterpart import save_tokenizer
from w2v2.models.ctc_checkpoint import read_vocabulary
from w2v2.models.decoding import greedy_path, transcript_of
from w2v2.models.probabilities import log_softmax

WORLD = {
    "English, apostrophes and digits": ["it's 7 o'clock", "don\u2019t 42", "a-b 3.14"],
    "Arabic, right to left, with marks": ["\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u0627\u064b \u0628\u0643", "\u0667 \u0623\u064a\u0627\u0645"],
    "Hebrew, right to left": ["\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u05dc\u05da", "\u05de\u05d4 \u05e9\u05dc\u05d5\u05de\u05da"],
    "Hindi, vowel signs": ["\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0915\u094d\u092f\u093e \u0939\u093e\u0932"],
    "Vietnamese, two marks": ["Ti\u1ebfng Vi\u1ec7t", "\u0111\u01b0\u1eddng ph\u1ed1"],
    "Yoruba, marks that nothing composes": ["\u1eb9\u0300k\u1ecd\u0301 \u00e8d\u00e8", "\u1ecd\u0300r\u1ecd\u0300"],
    "German, letters that two cases do not map": ["Stra\u00dfe", "gro\u00dfe \u00c4pfel"],
    "Korean, composed syllables": ["\uc548\ub155 \uc138\uc0c1", "\ud55c\uad6d\uc5b4"],
}  # fmt: skip
UNSPACED = {
    "Chinese": ["\u4f60\u597d\u4e16\u754c", "\u4eca\u5929\u5929\u6c14\u5f88\u597d"],
    "Japanese": ["\u3053\u3093\u306b\u3061\u306f", "\u6771\u4eac\u30bf\u30ef\u30fc"],
    "Khmer": ["\u1781\u17d2\u1789\u17bb\u17c6\u1791\u17c5\u1795\u17d2\u179f\u17b6\u179a", "\u1782\u17b6\u178f\u17cb"],
    "Thai": ["\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u0e19\u0e49\u0e33"],
}  # fmt: skip


def table(rows):
    """Clips with texts, their splits and speakers, as the readers give them."""
    whole = [
        {"clip_id": f"{i}.wav", "uri": f"{i}.wav", "start_s": 0.0, "end_s": float("inf"), "speaker": f"s{i}"}
        | {"split": "", "label": ""}
        | row
        for i, row in enumerate(rows)
    ]
    clips = pa.Table.from_pylist(whole, schema=manifest.CLIPS.append(pa.field("text", pa.string())))
    return manifest.Manifest(clips=clips, rejects=REJECTS.empty_table())


def written(text, vocabulary):
    """The text that a model writes which is sure of every character, with a blank between equal ones."""
    path = []
    for number in vocabulary.encode(text).tolist():
        path += [vocabulary.blank, number] if path and path[-1] == number else [number]
    logits = np.full((max(len(path), 1), len(vocabulary.tokens)), -5.0, np.float32)
    logits[np.arange(len(path)), path] = 5.0
    log_probabilities = log_softmax(logits)
    return transcript_of(greedy_path(log_probabilities), log_probabilities, vocabulary, frame_s=0.02), path


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", [*WORLD, *UNSPACED])
def test_text_of_any_script_is_kept_encoded_and_written_as_it_is(name, form, tmp_path):
    """From a CSV in either form to what is written, which is what transformers' tokenizer decodes, too."""
    spaces = name in WORLD
    texts = (WORLD | UNSPACED)[name]
    config = TextConfig(spaces=spaces)
    with (tmp_path / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "speaker", "text"])
        writer.writerows([f"{i}.wav", f"s{i}", unicodedata.normalize(form, t)] for i, t in enumerate(texts))
    corpus = manifest.read(DataConfig(uri=str(tmp_path / "clips.csv")), task="transcript")
    references = transcripts.with_references(corpus, config).clips["reference"].to_pylist()
    assert references == [unicodedata.normalize("NFC", text) for text in texts]
    vocabulary = vocabulary_of(references, config)
    assert (vocabulary.word_delimiter is not None) == spaces
    save_tokenizer(vocabulary, tmp_path)
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == len(vocabulary.tokens) == len(json.loads(vocabulary.to_json()))
    assert read_vocabulary(str(tmp_path)) == vocabulary
    for reference in references:
        transcript, path = written(reference, vocabulary)
        assert transcript.text == reference
        assert [word.text for word in transcript.words] == reference.split()
        assert tokenizer.decode(path) == reference


@dataclass(frozen=True)
class Quoted:
    cell: str
    text: str


@pytest.mark.parametrize(
    "row",
    [
        Quoted('"Hallo, ""Welt"""', 'Hallo, "Welt"'),
        Quoted("  a \t b\u00a0c  ", "a b c"),
        Quoted("\ufefftext", "text"),
    ],
)
def test_quotes_and_white_space_of_a_csv(row, tmp_path):
    (tmp_path / "clips.csv").write_text(
        f"uri,speaker,text\na.wav,s,{row.cell}\n", encoding="utf-8", newline=""
    )
    corpus = manifest.read(DataConfig(uri=str(tmp_path / "clips.csv")), task="transcript")
    references = transcripts.with_references(corpus, TextConfig(drop_chars="\ufeff")).clips["reference"]
    assert references.to_pylist() == [row.text]


def test_clips_without_text_are_rejected_or_teach_silence_by_choice():
    corpus = table([{"text": "kids"}, {"text": ""}, {"text": " \u200b\t"}, {"text": "..."}])
    settings = TextConfig(drop_chars=".", space_chars="\u200b")
    kept = transcripts.with_references(corpus, settings)
    assert kept.clips["reference"].to_pylist() == ["kids"]
    assert kept.rejects["reason"].to_pylist() == [
        "no text",
        "no text: ' \\u200b\\t' is empty once normalised",
        "no text: '...' is empty once normalised",
    ]
    silent = transcripts.with_references(
        corpus, TextConfig(drop_chars=".", space_chars="\u200b", keep_empty=True)
    )
    assert silent.clips["reference"].to_pylist() == ["kids", "", "", ""]


def test_frames_are_those_of_the_convolutions_and_a_short_clip_is_a_reject_with_both_numbers():
    kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    assert transcripts.num_frames(16_000, kernels=kernels, strides=strides) == 49  # of wav2vec2-base
    assert transcripts.num_frames(16_000, kernels=kernels, strides=strides, speed=2.0) == 24
    assert transcripts.num_frames(100, kernels=kernels, strides=strides) == 0
    assert transcripts.reject_too_short("aab", 4) is None
    assert transcripts.reject_too_short("aab", 3) == Reject(
        kind="too short for its transcript", detail="3 frames < 4 needed"
    )


def test_characters_that_a_vocabulary_lacks_are_named_and_counted(caplog):
    vocabulary = vocabulary_of(["kids and dogs"], TextConfig())
    with pytest.raises(
        UserError, match=r"3 of 11 training characters .*'z' U\+007A \(2\), '\|' U\+007C \(1\)"
    ):
        transcripts.refuse_unknown(["kids", "dogs|zz"], vocabulary, max_fraction=0.2)
    transcripts.refuse_unknown(["kids", "dogs|zz"], vocabulary, max_fraction=0.3)
    assert "left out of what is learned" in caplog.text
    counts = transcripts.warn_unknown(["zebra|", "z"], vocabulary, where="the test split")
    assert counts == {"z": 2, "b": 1, "e": 1, "r": 1, "|": 1}
    assert "the test split has characters that the model cannot write, each an error: 'z'" in caplog.text
    assert transcripts.warn_unknown(["dogs"], vocabulary, where="x") == {}


def test_sentences_that_two_splits_or_folds_share_are_counted():
    texts = ["a b", "c", "a b", "d", "", ""]
    splits = ["train", "train", "test", "test", "train", "test"]
    clips = pa.table({"reference": texts, "split": splits, "fold": [0, 0, 1, 1, 0, 1]})
    assert transcripts.num_in_train(clips) == 1
    assert transcripts.num_in_other_folds(clips) == 2


def test_where_nothing_is_written_the_transcript_is_empty_without_a_confidence():
    vocabulary = vocabulary_of(["ab"], TextConfig())
    transcript, _ = written("", vocabulary)
    assert transcript == type(transcript)(text="", confidence=None)
