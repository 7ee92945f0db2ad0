"""Whisper's encoder and wav2vec2-BERT: a padded batch equals transformers on each clip alone, and the cut changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

import w2v2
from tests.models.test_saved_model import CARD, CLASSES, CLIPS
from w2v2.config.data import AudioConfig, CacheConfig
from w2v2.config.model import EncoderConfig, HeadConfig, LoraConfig
from w2v2.errors import UserError
from w2v2.features.trunk_features import run_trunk, trunk_key
from w2v2.models.classifier import Classifier
from w2v2.models.ctc import Transcriber
from w2v2.models.encoder import Encoder
from w2v2.models.lengths import longest_s
from w2v2.models.lora import add_lora
from w2v2.models.model_info import ModelInfo
from w2v2.models.pretrained import load_encoder, loaded_encoder, weights_digest
from w2v2.models.saved_model import load_model, save_model

LENGTHS = [600, 700, 2711, 8000, 1999, 16_000]
KINDS = ("whisper", "bert-relative_key", "bert-relative", "bert-rotary")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Small models with random weights, and their feature extractors; Whisper's takes 1 s in place of 30."""
    made = {}
    for kind in KINDS:
        torch.manual_seed(3)
        folder = made[kind] = tmp_path_factory.mktemp(kind)
        common = dict(num_hidden_layers=3, hidden_size=24)
        if kind == "whisper":
            tokens = dict(
                vocab_size=20, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1
            )
            sizes = dict(d_model=24, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=40)
            decoder = dict(decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=8)
            model = WhisperModel(
                WhisperConfig(**tokens, **sizes, **decoder, num_mel_bins=16, max_source_positions=50)
            )
            WhisperFeatureExtractor(feature_size=16, chunk_length=1).save_pretrained(folder)
        else:
            sizes = dict(num_attention_heads=2, intermediate_size=40, feature_projection_input_dim=32)
            positions = dict(position_embeddings_type=kind.partition("-")[2], conv_depthwise_kernel_size=5)
            model = Wav2Vec2BertModel(Wav2Vec2BertConfig(**common, **sizes, **positions))
            SeamlessM4TFeatureExtractor(feature_size=16, num_mel_bins=16).save_pretrained(folder)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(folder)
    return made


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [(0.1 * (1 + n) * rng.normal(size=length)).astype(np.float32) for n, length in enumerate(LENGTHS)]


def padded(waveforms: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(w) for w in waveforms], batch_first=True)
    return rows, torch.tensor([len(w) for w in waveforms])


def encoder_of(folder: Path, **settings) -> Encoder:
    return load_encoder(EncoderConfig(name=str(folder), **settings), seed=0).eval()


def alone(folder: Path, waveform: np.ndarray) -> tuple[list[torch.Tensor], int]:
    """All hidden states by transformers itself, the last one last, and how many frames are the clip's own."""
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        if isinstance(model, WhisperModel):
            extractor = WhisperFeatureExtractor.from_pretrained(folder)
            given = extractor(waveform, sampling_rate=16_000, return_tensors="pt").input_features
            output = model.encoder(given, output_hidden_states=True)
            return [*output.hidden_states[:-1], output.last_hidden_state], -(-len(waveform) // 320)
        given = SeamlessM4TFeatureExtractor.from_pretrained(folder)(
            waveform, sampling_rate=16_000, return_tensors="pt"
        )
        output = model(**given, output_hidden_states=True)
        return [*output.hidden_states[:-1], output.last_hidden_state], int(given.attention_mask.sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", ["last", 0, 2])
def test_padded_batch_equals_transformers_on_each_clip_alone(folders, waveforms, kind, layer):
    encoder = encoder_of(folders[kind], train="all", layer=layer)
    with torch.no_grad():
        states, num_frames = encoder(*padded(waveforms))
    for row, count, waveform in zip(states, num_frames.tolist(), waveforms, strict=True):
        expected, num_expected = alone(folders[kind], waveform)
        wanted = expected[-1 if layer == "last" else layer][0, :num_expected]
        assert count == num_expected
        assert torch.allclose(row[:count], wanted, atol=1e-4, rtol=0)
        assert torch.allclose(row[:count].mean(0), wanted.mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["whisper", "bert-relative_key"])
@pytest.mark.parametrize(
    "settings",
    [
        dict(train="no_conv"), dict(train="last", num_last_layers=1), dict(train="last", num_last_layers=2, layer="mix"),
        dict(train="head"), dict(train="head", pooling="attention"), dict(train="head", layer="mix", pooling="mean+std"),
        dict(train="head", layer=1, pooling="max"), dict(train="last", num_last_layers=1, layer="concat", layers=(1, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_trunk_then_tail_equals_the_whole(folders, waveforms, kind, settings):
    """Through the very arrays that the cache keeps, of each clip alone."""

    def logits(**settings):
        torch.manual_seed(7)
        model = Classifier(encoder_of(folders[kind], **settings), HeadConfig(), groups=[5]).eval()
        arrays = run_trunk(model.encoder, waveforms)
        with torch.no_grad():
            features = torch.nn.utils.rnn.pad_sequence(
                [torch.from_numpy(a) for a in arrays], batch_first=True
            )
            return model(features, torch.tensor([len(a) for a in arrays]))

    assert torch.allclose(logits(**settings), logits(**{**settings, "train": "all"}), atol=2e-5)


@pytest.mark.parametrize("kind", ["whisper", "bert-relative_key"])
@pytest.mark.parametrize("train", ["all", "no_conv", "last", "head"])
def test_what_is_trained_gets_gradients_and_nothing_else(folders, waveforms, kind, train):
    encoder = encoder_of(folders[kind], train=train, num_last_layers=1)
    model = Classifier(encoder, HeadConfig(), groups=[5]).train()
    model(*encoder.trunk(*padded(waveforms))).square().sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad} - {
        "encoder.model.masked_spec_embed"
    }
    assert any("layers.2." in name for name in trained) == (train != "head")


@pytest.mark.parametrize("kind, num_updates", [("whisper", 2 * 6), ("bert-relative_key", 2 * 8)])
def test_low_rank_updates_begin_with_the_same_outputs(folders, waveforms, kind, num_updates):
    plain, updated = (encoder_of(folders[kind], train="last", num_last_layers=2) for _ in range(2))
    add_lora(updated, LoraConfig(rank=2, projections=("query", "key", "value", "output", "feed_forward")))
    with torch.no_grad():
        expected, states = (one(*one.trunk(*padded(waveforms)))[0] for one in (plain, updated))
    assert torch.allclose(states, expected, atol=1e-5)
    assert sum(parameter.requires_grad for parameter in updated.parameters()) == 2 * num_updates


@pytest.mark.parametrize("kind", ["whisper", "bert-relative_key"])
def test_a_saved_model_comes_back(folders, waveforms, tmp_path, kind):
    encoder = encoder_of(folders[kind], train="last", num_last_layers=1)
    model = Classifier(encoder, HeadConfig(), groups=[3]).eval()
    settings = EncoderConfig(name=str(folders[kind]), train="last", num_last_layers=1)
    info = ModelInfo(
        kind="classes", groups=(CLASSES,), audio=AudioConfig(), encoder=settings, head=HeadConfig(), normalize=False
    )  # fmt: skip
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    again = load_model(str(tmp_path)).model
    with torch.no_grad():
        expected = model(*model.encoder.trunk(*padded(waveforms)))
        assert torch.allclose(again(*again.encoder.trunk(*padded(waveforms))), expected, atol=1e-5)
    predicted = w2v2.predict(str(tmp_path), waveforms[2], sampling_rate=16_000)
    probabilities = expected[2].softmax(0)
    for place, name in enumerate(CLASSES):
        assert predicted[f"prob_{name}"][0] == pytest.approx(probabilities[place].item(), abs=1e-5)
    assert weights_digest(AutoModel.from_pretrained(tmp_path)) == weights_digest(model.encoder.model)


@pytest.mark.parametrize("kind", ["whisper", "bert-relative_key"])
def test_min_samples_gives_exactly_one_frame(folders, kind):
    encoder = encoder_of(folders[kind])
    assert encoder.num_frames(torch.tensor([encoder.min_samples - 1, encoder.min_samples])).tolist() == [0, 1]


def test_what_whisper_does_not_take_is_refused(folders):
    encoder = encoder_of(folders["whisper"])
    assert encoder.max_s == 1.0 and longest_s(encoder, window_s=0.5) == float("inf")
    with pytest.raises(UserError, match=r"window_s must be at most 1, the seconds that .*, got 2"):
        longest_s(encoder, window_s=2.0)
    loaded_encoder.cache_clear()
    long = np.random.default_rng(0).normal(size=20_000)
    with pytest.raises(
        UserError, match=r"too long: 1\.25 s > 1 s, the most that the encoder takes; use --audio\.crop_s 1"
    ):
        w2v2.embed(long, sampling_rate=16_000, encoder=str(folders["whisper"]))
    assert len(w2v2.embed(long, sampling_rate=16_000, encoder=str(folders["whisper"]), window_s=1.0)) == 2
    with pytest.raises(
        UserError, match=r"task\.kind=transcript is for encoders of waveforms, and .* takes spectra"
    ):
        Transcriber(encoder, HeadConfig(), num_outputs=5)


def test_another_front_end_is_another_entry_of_the_cache(folders):
    encoder = encoder_of(folders["bert-rotary"], train="head")
    key = trunk_key(encoder, "d", cache=CacheConfig(), precision="float32")
    encoder.extractor.padding_value = 3.0
    assert trunk_key(encoder, "d", cache=CacheConfig(), precision="float32") != key


def test_frames_with_and_without_their_count_are_different_entries_of_the_cache(folders):
    """The same hidden state crosses both cuts: where layers follow, all frames of the window and the clip's number of them."""
    head = encoder_of(folders["whisper"], train="head", layer=1, pooling="attention")
    last = encoder_of(folders["whisper"], train="last", num_last_layers=2)
    assert head.cut == last.cut
    one, other = (trunk_key(e, "d", cache=CacheConfig(), precision="float32") for e in (head, last))
    assert one != other


def test_counts_of_frames_keep_their_value_in_bfloat16(folders, waveforms):
    encoder = encoder_of(folders["whisper"], train="no_conv")
    with torch.autocast("cpu", torch.bfloat16):
        rows, _ = encoder.trunk(*padded(waveforms))
    assert rows.dtype == torch.float32
    assert rows[:, -1, 0].tolist() == [-(-length // 320) for length in LENGTHS]


def test_a_model_of_spectra_without_its_extractor_is_refused(folders, tmp_path):
    AutoModel.from_pretrained(folders["whisper"]).save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"it takes spectra, and its preprocessor_config\.json cannot be read"
    ):
        encoder_of(tmp_path)
