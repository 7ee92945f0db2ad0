"""Fine-tuning that ends with a beam search: weights from the val split alone, kept in the model folder, used from there."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("flashlight", reason="the extra asr is not installed")

from tests.made.arpa import write_arpa
from tests.made.corpora import sentences_csv
from tests.training.test_transcription import make_config, make_plan
from w2v2.audio.synthesis import WORDS
from w2v2.config.decode import DecodeConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import vocabulary_of
from w2v2.errors import UserError
from w2v2.evaluation.recognition import edits
from w2v2.inference.prediction import predict_clips
from w2v2.models.beam_search import LanguageModel
from w2v2.models.decoder import Decoder, make_decoder, of_model, predictor_name
from w2v2.models.model_info import read_info
from w2v2.models.probabilities import log_softmax
from w2v2.models.saved_model import load_model
from w2v2.training.decoding_weights import LM_WEIGHTS, WORD_SCORES, tuned
from w2v2.training.finetuning import finetune
from w2v2.training.process_group import ProcessGroup


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    """A model in which the corpus's words are equally likely."""
    ngrams = {("<unk>",): (-9.0, 0.0), ("<s>",): (-99.0, 0.0), ("</s>",): (-0.6, 0.0)}
    ngrams |= {(word,): (-1.3, 0.0) for word in WORDS}
    ngrams |= {("<s>", word): (-1.2, 0.0) for word in WORDS}
    return str(write_arpa(tmp_path_factory.mktemp("lm") / "words.arpa", ngrams))


@pytest.fixture(scope="module")
def trained(arpa, tmp_path_factory):
    """A plan whose search is tuned, and what its fine-tuning returned."""
    folder = tmp_path_factory.mktemp("beam")
    decode = DecodeConfig(kind="beam", lm=arpa, lexicon="lm", beam_size=20)
    plan = make_plan(make_config(sentences_csv(folder / "data"), folder / "run", decode=decode))
    return plan, finetune(plan)


def test_the_weights_have_the_fewest_errors_on_val_and_the_test_split_has_no_part_in_them(trained):
    plan, result = trained
    beam = result.beam
    assert {one.lm_weight for one in beam.tried} == set(LM_WEIGHTS)
    assert {one.word_score for one in beam.tried} == set(WORD_SCORES)
    best = min(beam.tried, key=lambda one: one.error_rate)
    chosen = [one for one in beam.tried if (one.lm_weight, one.word_score) == _weights(beam.decode)]
    assert [one.error_rate for one in chosen] == [best.error_rate]
    clips = plan.clips.take(pa.array(result.rows)).to_pylist()
    on_val = [
        edits(clip["reference"].split(), one.text.split())
        for clip, one in zip(clips, result.values, strict=True)
        if clip["split"] == "val"
    ]
    assert best.error_rate == pytest.approx(
        sum(one.errors for one in on_val) / sum(one.reference for one in on_val)
    )
    # The same search where the test split has other sentences.
    references = ["kids" if clip["split"] == "test" else clip["reference"] for clip in plan.clips.to_pylist()]
    column = plan.clips.column_names.index("reference")
    other = replace(plan, clips=plan.clips.set_column(column, "reference", pa.array(references)))
    again = finetune(other)
    assert (again.beam.decode, again.beam.tried) == (beam.decode, beam.tried)
    assert [one.text for one in again.values] == [one.text for one in result.values]


def _weights(decode):
    return decode.lm_weight, decode.word_score


def test_only_words_of_the_lexicon_are_written_and_greedy_text_is_kept_to_compare(trained):
    plan, result = trained
    assert {word for one in result.values for word in one.text.split()} <= set(WORDS)
    greedy = finetune(replace(plan, config=replace(plan.config, decode=DecodeConfig())))
    assert [one.text for one in greedy.values] == [one.text for one in result.beam.greedy]
    assert greedy.digest == result.digest and greedy.beam is None
    finetune(plan)  # what the next tests find in the folder


def test_the_model_folder_keeps_language_model_and_weights_and_predicts_with_them(trained, arpa):
    plan, result = trained
    folder = f"{plan.config.run}/model"
    info, digest = read_info(folder)
    assert info.decode == replace(result.beam.decode, lm="language_model.arpa")
    decode = of_model(folder, info, DecodeConfig(kind="beam"))
    assert Path(decode.lm).read_bytes() == Path(arpa).read_bytes()
    clips = [
        {"clip_id": row["clip_id"], "uri": row["uri"], "start_s": 0.0, "end_s": float("inf")}
        for row in plan.clips.take(pa.array(result.rows)).to_pylist()
    ]
    saved = load_model(folder)
    decoder = make_decoder(decode, info.vocabulary)
    predicted = predict_clips(clips, saved, num_readers=2, decoder=decoder)
    assert [one.transcript.text for one in predicted] == [one.text for one in result.values]
    for one in predicted:
        ends = [0.0]
        for word in one.transcript.words:
            assert ends[-1] <= word.start_s < word.end_s <= one.duration_s + 1e-6
            ends.append(word.end_s)
    names = {
        predictor_name(digest, one)
        for one in (DecodeConfig(), decode, replace(decode, lm_weight=9.0), replace(decode, beam_size=5))
    }
    assert len(names) == 4 and digest in names
    place = Path(decode.lm)
    place.write_bytes(place.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"damaged: language_model\.arpa is not as it was saved"):
        read_info(folder)
    place.write_bytes(Path(arpa).read_bytes())
    assert of_model(folder, info, DecodeConfig(kind="beam", lm_weight=9.0)).lm_weight == 9.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "keeps no language model: give --decode.lm"),
        ({"lm": "ARPA", "lexicon": "lm", "lm_weight": 1.0}, "decode.lm needs --decode.lm_weight, and with a"),
        ({"lm": "/no/such.arpa", "lm_weight": 1.0}, "decode.lm /no/such.arpa does not exist"),
        (
            {"lm": "ARPA", "lexicon": "/no/words", "lm_weight": 1.0, "word_score": 0.0},
            "decode.lexicon /no/words does not exist",
        ),
    ],
)
def test_a_search_that_the_folder_or_the_settings_do_not_have(trained, arpa, settings, message):
    plan, _ = trained
    folder = f"{plan.config.run}/model"
    info = replace(read_info(folder)[0], decode=None)
    given = {name: arpa if value == "ARPA" else value for name, value in settings.items()}
    with pytest.raises(UserError, match=message):
        of_model(folder, info, DecodeConfig(kind="beam", **given))


def test_without_the_extra_the_package_is_named(trained, arpa, monkeypatch):
    plan, _ = trained
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    folder = f"{plan.config.run}/model"
    with pytest.raises(UserError, match=r"needs the package flashlight-text: pip install -e '.\[asr\]'"):
        of_model(folder, read_info(folder)[0], DecodeConfig(kind="beam"))


def test_two_processes_choose_what_one_does(tmp_path):
    vocabulary = vocabulary_of(["ab"], TextConfig())
    ngrams = {("<unk>",): (-3.0, 0.0), ("<s>",): (-99.0, 0.0), ("</s>",): (-1.0, 0.0)}
    ngrams |= {("a",): (-0.3, 0.0), ("b",): (-0.9, 0.0), ("|",): (-0.5, 0.0), ("a", "b"): (-0.1, 0.0)}
    place = write_arpa(tmp_path / "characters.arpa", ngrams)
    lm = LanguageModel(vocabulary, lm=place, words=None)
    rng = np.random.default_rng(3)
    frames = {row: log_softmax((2 * rng.normal(size=(12, 4))).astype(np.float32)) for row in range(8)}
    references = ["".join(letters) for letters in itertools.product("ab", repeat=3)]
    decode = DecodeConfig(kind="beam", lm=str(place))

    class Two(ProcessGroup):
        """The second half of the clips is another process's, whose sums are worked out here."""

        def states(self, state):
            return [state, next(others)]

    whole, all_tried = tuned(lm, decode, frames, references, group=ProcessGroup())
    later = {row: one for row, one in frames.items() if row >= 4}
    sums = []
    for one in all_tried:
        from w2v2.models.beam_search import BeamSearch

        decoder = Decoder(
            vocabulary=vocabulary, search=BeamSearch(lm, replace(decode, lm_weight=one.lm_weight))
        )
        counted = [
            edits(references[row].split(), decoder.transcript(probabilities, frame_s=1.0).text.split())
            for row, probabilities in later.items()
        ]
        sums.append((sum(e.errors for e in counted), sum(e.reference for e in counted)))
    others = iter(sums)
    first = {row: one for row, one in frames.items() if row < 4}
    assert tuned(lm, decode, first, references, group=Two(rank=0, size=2)) == (whole, all_tried)
