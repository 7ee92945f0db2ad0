"""CTC models against transformers' own, torch's loss against single clips, decoding against the tokenizer."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCTC, Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC

from tests.models.test_encoder import MODELS, make_encoder, padded
from w2v2.config.data import AudioConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import frames_needed, padded_targets, vocabulary_of
from w2v2.features.batches import collate
from w2v2.features.trunk_features import run_trunk
from w2v2.models.ctc import Transcriber
from w2v2.models.ctc_loss import FrameLogits, ctc_sum
from w2v2.models.decoding import forced_path, greedy_path, runs_of, transcript_of
from w2v2.models.model_info import ModelInfo
from w2v2.models.probabilities import log_softmax
from w2v2.models.saved_model import load_model, save_model

VOCABULARY = vocabulary_of(["kids and dogs"], TextConfig())
TEXTS = ["kids", "dogs and", "a sadness is", "", "dd aa"]
LENGTHS = (900, 4000, 8000, 2711, 8000)


def make_transcriber(kind="wav2vec2-group", **settings):
    torch.manual_seed(1)
    encoder = make_encoder(kind, train="all", **settings)
    return Transcriber(encoder, HeadConfig(), num_outputs=len(VOCABULARY.tokens)).eval()


def stock_of(model):
    """Transformers' own CTC model with the same weights."""
    config = type(model.encoder.model.config).from_dict(model.encoder.model.config.to_dict())
    config.vocab_size, config.pad_token_id, config.ctc_loss_reduction = (
        model.num_outputs,
        VOCABULARY.blank,
        "sum",
    )
    stock = Wav2Vec2ForCTC(config).eval()
    stock.wav2vec2.load_state_dict(model.encoder.model.state_dict())
    stock.lm_head.load_state_dict(model.head.layers[-1].state_dict())
    return stock


@pytest.fixture
def waveforms():
    torch.manual_seed(5)
    return [torch.randn(length) for length in LENGTHS]


def targets_of(texts):
    return torch.from_numpy(padded_targets(texts, VOCABULARY))


@pytest.mark.parametrize("kind", ["wav2vec2-group", "wav2vec2-layer"])
def test_logits_loss_and_gradients_of_a_padded_batch_are_transformers_on_single_clips(kind, waveforms):
    model = make_transcriber(kind)
    stock = stock_of(model)
    outputs = model(*padded(waveforms))
    total = torch.zeros(())
    for row, num, waveform, text in zip(outputs.logits, outputs.num_frames, waveforms, TEXTS, strict=True):
        labels = torch.from_numpy(VOCABULARY.encode(text)).long()[None]
        alone = stock(waveform[None], labels=labels if text else None)
        assert alone.logits.shape[1] == num
        torch.testing.assert_close(row[:num], alone.logits[0], atol=1e-5, rtol=1e-5)
        total = total + (alone.loss if text else -alone.logits[0].log_softmax(-1)[:, VOCABULARY.blank].sum())
    loss = ctc_sum(outputs, targets_of(TEXTS), blank=VOCABULARY.blank)
    assert float(loss) == pytest.approx(float(total), rel=1e-5)
    loss.backward()
    total.backward()
    ours = torch.cat([p.grad.flatten() for p in model.encoder.model.encoder.layers.parameters()])
    theirs = torch.cat([p.grad.flatten() for p in stock.wav2vec2.encoder.layers.parameters()])
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


@pytest.mark.parametrize("kind", MODELS)
def test_every_family_writes_what_transformers_own_model_does_and_is_read_back(kind, waveforms, tmp_path):
    model = make_transcriber(kind)
    info = ModelInfo(
        kind="transcript",
        groups=(VOCABULARY.tokens,),
        audio=AudioConfig(),
        encoder=EncoderConfig(pooling="none"),
        head=HeadConfig(),
        normalize=True,
        text=TextConfig(),
        vocabulary=VOCABULARY,
    )
    clips = pa.table({"speaker": ["S1"], "audio_digest": ["0" * 32], "reference": ["kids"]})
    digest = save_model(str(tmp_path), model, info, card={}, made_from=clips)
    stock = AutoModelForCTC.from_pretrained(tmp_path).eval()
    saved = load_model(str(tmp_path))
    assert saved.digest == digest and saved.info.vocabulary == VOCABULARY
    with torch.no_grad():
        outputs = saved.model(*padded(waveforms))
        for row, num, waveform in zip(outputs.logits, outputs.num_frames, waveforms, strict=True):
            torch.testing.assert_close(row[:num], stock(waveform[None]).logits[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "wav2vec2-layer"])
def test_what_the_convolutions_gave_once_gives_the_loss_of_the_waveforms(kind, waveforms):
    whole = make_transcriber(kind)
    tail = Transcriber(
        make_encoder(kind, train="no_conv"), HeadConfig(), num_outputs=len(VOCABULARY.tokens)
    ).eval()
    tail.load_state_dict(whole.state_dict())
    with torch.no_grad():
        expected = ctc_sum(whole(*padded(waveforms)), targets_of(TEXTS), blank=0)
        cached = run_trunk(tail.encoder, [waveform.numpy() for waveform in waveforms])
        loss = ctc_sum(tail(*collate(cached)), targets_of(TEXTS), blank=0)
    assert float(loss) == pytest.approx(float(expected), rel=2e-7)


def test_the_loss_adds_up_over_clips_and_padding_changes_nothing(waveforms):
    model = make_transcriber()
    outputs = model(*padded(waveforms))
    whole = ctc_sum(outputs, targets_of(TEXTS), blank=0)
    alone = [
        ctc_sum(FrameLogits(row[None, :num], num[None]), targets_of([text]), blank=0)
        for row, num, text in zip(outputs.logits, outputs.num_frames, TEXTS, strict=True)
    ]
    assert float(whole) == pytest.approx(float(sum(alone)), rel=1e-6)


def test_a_clip_with_too_few_frames_has_no_finite_loss():
    outputs = FrameLogits(torch.zeros(1, 3, len(VOCABULARY.tokens)), torch.tensor([3]))
    assert frames_needed("aad") == 4
    assert torch.isinf(ctc_sum(outputs, targets_of(["aad"]), blank=0))
    assert torch.isfinite(ctc_sum(outputs, targets_of(["ada"]), blank=0))


@pytest.mark.parametrize("layer", ["mix", "concat"])
def test_layers_mixed_or_next_to_each_other_give_a_row_of_logits_per_frame(layer, waveforms):
    model = make_transcriber(layer=layer)
    outputs = model(*padded(waveforms))
    assert outputs.logits.shape == (len(waveforms), int(outputs.num_frames.max()), len(VOCABULARY.tokens))
    alone = model(*padded(waveforms[:1]))
    torch.testing.assert_close(
        outputs.logits[0, : alone.num_frames[0]], alone.logits[0], atol=1e-5, rtol=1e-5
    )


@settings(max_examples=100, deadline=None)
@given(path=st.lists(st.integers(0, len(VOCABULARY.tokens) - 1), min_size=1, max_size=30))
def test_greedy_text_is_that_of_the_tokenizer_with_single_spaces(path, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(VOCABULARY.tokens)}))
    tokenizer = Wav2Vec2CTCTokenizer(folder / "vocab.json", bos_token=None, eos_token=None, unk_token=None)
    logits = np.full((len(path), len(VOCABULARY.tokens)), -3.0, np.float32)
    logits[np.arange(len(path)), path] = 3.0
    log_probabilities = log_softmax(logits)
    greedy = greedy_path(log_probabilities)
    transcript = transcript_of(greedy, log_probabilities, VOCABULARY, frame_s=0.02)
    assert transcript.text == " ".join(tokenizer.decode(path).split())
    assert transcript.text == " ".join(word.text for word in transcript.words)
    assert (transcript.confidence is None) == (not transcript.text)


def test_words_have_the_frames_that_write_them():
    k, i, d, s, bar = (VOCABULARY.tokens.index(token) for token in "kids|")
    path = np.array([0, 0, k, k, i, 0, d, s, 0, bar, 0, s, 0, s, 0])
    logits = np.zeros((len(path), len(VOCABULARY.tokens)), np.float32)
    logits[np.arange(len(path)), path] = 4.0
    transcript = transcript_of(path, log_softmax(logits), VOCABULARY, frame_s=0.02, start_s=1.0)
    assert [word.text for word in transcript.words] == ["kids", "ss"]
    assert [(word.start_s, word.end_s) for word in transcript.words] == [
        (pytest.approx(1.04), pytest.approx(1.16)),
        (pytest.approx(1.22), pytest.approx(1.28)),
    ]
    sure = float(np.exp(4) / (np.exp(4) + len(VOCABULARY.tokens) - 1))
    assert transcript.confidence == pytest.approx(sure) == transcript.words[0].confidence


def test_the_forced_path_is_the_likeliest_of_all_that_write_the_labels():
    rng = np.random.default_rng(0)
    for labels in ([1, 2], [1, 1], [2], [], [1, 2, 1]):
        log_probabilities = log_softmax(rng.normal(size=(6, 3)).astype(np.float32))
        best = max(
            (path for path in itertools.product(range(3), repeat=6) if writes(path) == labels),
            key=lambda path: log_probabilities[range(6), path].sum(),
        )
        forced = forced_path(log_probabilities, np.array(labels, np.int32), blank=0)
        np.testing.assert_array_equal(forced, best)


def test_the_forced_path_of_greedy_text_is_the_greedy_path():
    rng = np.random.default_rng(1)
    log_probabilities = log_softmax(3 * rng.normal(size=(40, 5)).astype(np.float32))
    path = greedy_path(log_probabilities)
    labels = np.array([run.label for run in runs_of(path, blank=0)], np.int32)
    np.testing.assert_array_equal(forced_path(log_probabilities, labels, blank=0), path)
    with pytest.raises(ValueError, match="2 frames cannot write these 3 labels"):
        forced_path(log_probabilities[:2], np.array([1, 2, 3], np.int32), blank=0)


def test_the_forced_path_is_that_of_torchaudio():
    from torchaudio.functional import forced_align

    rng = np.random.default_rng(2)
    log_probabilities = log_softmax(2 * rng.normal(size=(50, 7)).astype(np.float32))
    labels = np.array([3, 3, 1, 6, 2, 2, 5], np.int32)
    theirs, _ = forced_align(
        torch.from_numpy(log_probabilities.astype(np.float32))[None], torch.from_numpy(labels)[None], blank=0
    )
    np.testing.assert_array_equal(forced_path(log_probabilities, labels, blank=0), theirs[0].numpy())


def writes(path):
    """What a path writes: repeats once, no blanks."""
    return [label for label, _ in itertools.groupby(path) if label]
