"""SEW and SEW-D: a padded batch equals transformers on each clip alone, whatever is frozen, cached, saved or pre-trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCTC,
    SEWConfig,
    SEWDConfig,
    SEWDModel,
    SEWModel,
)

from tests.made.encoders import moved, noise, padded
from tests.models.test_saved_model import CARD, CLASSES, CLIPS, outputs
from w2v2.config.data import AudioConfig, CacheConfig
from w2v2.config.model import EncoderConfig, HeadConfig, LoraConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import Vocabulary
from w2v2.features.trunk_features import run_trunk, trunk_key
from w2v2.models.classifier import Classifier
from w2v2.models.ctc import Transcriber
from w2v2.models.lora import add_lora
from w2v2.models.model_info import ModelInfo
from w2v2.models.pretrained import encoder_of
from w2v2.models.saved_model import load_model, save_model
from w2v2.training.optimizer import layer_depth

SMALL = dict(
    hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40, conv_dim=(17, 17, 17),
    conv_kernel=(10, 3, 1), conv_stride=(5, 4, 1), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
)  # fmt: skip
MODELS = {
    "group": (SEWConfig, SEWModel, dict()),
    "layer": (SEWConfig, SEWModel, dict(feat_extract_norm="layer", conv_bias=True)),
    "three-to-one": (SEWConfig, SEWModel, dict(squeeze_factor=3, num_conv_pos_embeddings=15)),
    "no-projection": (SEWConfig, SEWModel, dict(conv_dim=(17, 17, 24))),
    "d": (SEWDConfig, SEWDModel, dict(max_position_embeddings=20, position_buckets=8)),
    "d-own-keys": (SEWDConfig, SEWDModel, dict(share_att_key=False, position_buckets=-1, max_position_embeddings=30)),
}  # fmt: skip
LENGTHS = [70, 91, 400, 2711, 1993]  # of 3, 4, 19, ... frames: with and without a remainder
SETTINGS = [
    dict(train="no_conv"), dict(train="last", num_last_layers=1), dict(train="last", num_last_layers=3),
    dict(train="last", num_last_layers=2, layer="mix"), dict(train="last", num_last_layers=2, layer=2), dict(train="head"),
    dict(train="last", num_last_layers=1, layer=3), dict(train="head", layer=3), dict(train="head", layer=1, pooling="max"),
    dict(train="head", layer="mix"), dict(train="head", pooling="attention"), dict(train="head", layer=1, pooling="attention"),
    dict(train="last", num_last_layers=1, layer="concat", layers=(1, 3), pooling="attentive_statistics"),
]  # fmt: skip


def make_model(kind: str):
    config_class, model_class, extra = MODELS[kind]
    torch.manual_seed(3)
    return moved(model_class(config_class(**{**SMALL, **extra})).eval())


def make_encoder(kind: str, **settings):
    return encoder_of(make_model(kind), EncoderConfig(**settings), normalize=True).eval()


@pytest.fixture(scope="module")
def waveforms() -> list[torch.Tensor]:
    return noise(LENGTHS)


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_padded_batch_equals_transformers_on_each_clip_alone(kind, waveforms):
    stock_outputs = [make_model(kind)(waveform[None], output_hidden_states=True) for waveform in waveforms]
    for layer in ("last", 0, 2, 3):
        encoder = make_encoder(kind, train="all", layer=layer)
        states, num_frames = encoder(*padded(waveforms))
        noisy, _ = encoder(*padded(waveforms, fill=100.0))
        for row, same, count, stock in zip(states, noisy, num_frames.tolist(), stock_outputs, strict=True):
            alone = (stock.last_hidden_state if layer == "last" else stock.hidden_states[layer])[0]
            assert len(alone) == count
            assert torch.allclose(row[:count], alone, atol=1e-5, rtol=0)
            assert torch.allclose(same[:count], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "kind, settings",
    [
        *(("three-to-one", one) for one in SETTINGS[1:9]),
        *(pytest.param("three-to-one", one, marks=pytest.mark.slow) for one in (SETTINGS[0], *SETTINGS[9:])),
        *(("d", one) for one in SETTINGS[1:4]),
    ],
    ids=str,
)
def test_trunk_then_tail_equals_the_whole(kind, settings, waveforms):
    """Through the very arrays that the cache keeps, of each clip alone."""

    def logits(**settings):
        torch.manual_seed(7)
        model = Classifier(make_encoder(kind, **settings), HeadConfig(), groups=[5]).eval()
        arrays = run_trunk(model.encoder, [waveform.numpy() for waveform in waveforms])
        with torch.no_grad():
            if model.encoder.cut.stage == "pooled":
                return model(torch.from_numpy(np.stack(arrays)), torch.ones(len(arrays), dtype=torch.long))
            rows = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in arrays], batch_first=True)
            return model(rows, torch.tensor([len(a) for a in arrays]))

    assert torch.allclose(logits(**settings), logits(**{**settings, "train": "all"}), atol=2e-5)


def test_settings_with_other_rows_at_the_cut_have_other_entries_in_the_cache():
    def key(kind, **settings):
        encoder = make_encoder(kind, **settings)
        return trunk_key(encoder, "digest", cache=CacheConfig(), precision="float32")

    assert key("d", train="last", num_last_layers=2) == key(
        "d", train="last", num_last_layers=2, layer="last"
    )
    assert key("d", train="last", num_last_layers=2) == key("d", train="last", num_last_layers=2, layer=2)
    assert key("d", train="head") != key("d", train="head", layer=3)
    with_remainders = key("d", train="last", num_last_layers=2)
    assert with_remainders != key("d", train="head", layer=1, pooling="attention")


@pytest.mark.parametrize("kind", ["d", pytest.param("group", marks=pytest.mark.slow)])
@pytest.mark.parametrize("settings", [dict(train="all"), SETTINGS[0], SETTINGS[1], SETTINGS[6]], ids=str)
def test_what_is_trained_gets_gradients_and_nothing_else(kind, settings, waveforms):
    model = Classifier(make_encoder(kind, **settings), HeadConfig(), groups=[5]).train()
    model(*model.encoder.trunk(*padded(waveforms))).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name != "encoder.model.masked_spec_embed":
            assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("kind", ["group", "d"])
def test_gradient_of_a_padded_batch_is_the_sum_of_single_clips(kind, waveforms):
    model = Classifier(make_encoder(kind, train="all"), HeadConfig(), groups=[5]).eval()

    def gradients(batch):
        model.zero_grad()
        model(*padded(batch)).square().sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    alone = [gradients([waveform]) for waveform in waveforms]
    for name, gradient in gradients(waveforms).items():
        expected = sum(one.get(name, torch.zeros_like(gradient)) for one in alone)
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-4 * (1 + expected.abs().max())), name


@pytest.mark.parametrize("kind", ["group", "d"])
def test_low_rank_updates_begin_with_the_same_outputs(kind, waveforms):
    plain, updated = (make_encoder(kind, train="last", num_last_layers=2) for _ in range(2))
    add_lora(updated, LoraConfig(rank=2, projections=("query", "key", "value", "output", "feed_forward")))
    with torch.no_grad():
        expected, states = (one(*one.trunk(*padded(waveforms)))[0] for one in (plain, updated))
    assert torch.allclose(states, expected, atol=1e-5)
    assert sum(parameter.requires_grad for parameter in updated.parameters()) == 2 * 2 * 6


@pytest.mark.parametrize("kind", MODELS)
def test_the_shortest_clip_has_one_frame_of_the_layers(kind):
    encoder = make_encoder(kind, train="all", layer=1)
    with torch.no_grad():
        states, _ = encoder(*padded([torch.randn(encoder.min_samples)]))
        assert states.shape[1] == 1
        with pytest.raises(RuntimeError, match=r"(?i)size|kernel"):
            encoder.model(torch.randn(1, encoder.min_samples - 1))


@pytest.mark.parametrize("kind", ["three-to-one", "d", pytest.param("group", marks=pytest.mark.slow)])
@pytest.mark.parametrize("layer", ["last", "mix"])
def test_a_saved_model_comes_back_and_transformers_gives_its_logits(kind, layer, waveforms, tmp_path):
    torch.manual_seed(2)
    encoder = make_encoder(kind, train="last", num_last_layers=2, layer=layer)
    model = Classifier(encoder, HeadConfig(), groups=[3]).eval()
    info = ModelInfo(
        kind="classes", groups=(CLASSES,), audio=AudioConfig(), encoder=encoder.config, head=HeadConfig(), normalize=True
    )  # fmt: skip
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    arrays = [waveform.numpy() for waveform in waveforms]
    expected = outputs(model, arrays)
    np.testing.assert_allclose(outputs(load_model(str(tmp_path)).model, arrays), expected, atol=1e-6)
    stock = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
    for array, row in zip(arrays, expected, strict=True):
        normal = torch.from_numpy((array - array.mean()) / np.sqrt(array.var() + 1e-7))
        with torch.no_grad():
            np.testing.assert_allclose(stock(normal[None]).logits[0].numpy(), row, atol=1e-5)


def test_transcripts_have_the_frames_of_transformers(waveforms, tmp_path):
    encoder = make_encoder("d", train="last", pooling="none")
    model = Transcriber(encoder, HeadConfig(), num_outputs=4).eval()
    vocabulary = Vocabulary(tokens=("<pad>", "|", "a", "b"), blank=0, word_delimiter="|")
    info = ModelInfo(
        kind="transcript", groups=(vocabulary.tokens,), audio=AudioConfig(), encoder=encoder.config, head=HeadConfig(),
        normalize=True, text=TextConfig(), vocabulary=vocabulary,
    )  # fmt: skip
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    stock = AutoModelForCTC.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        logits, num_frames = model(*encoder.trunk(*padded(waveforms)))
        for row, count, waveform in zip(logits, num_frames.tolist(), waveforms, strict=True):
            theirs = stock(waveform[None]).logits[0]
            assert len(theirs) == count == encoder.num_frames(torch.tensor([len(waveform)]))[0]
            assert torch.allclose(row[:count], theirs, atol=1e-5)
    with pytest.raises(
        ValueError, match=r"task\.kind=transcript needs encoder\.layer=last with a sew-d model"
    ):
        Transcriber(make_encoder("d", layer="mix", pooling="none"), HeadConfig(), num_outputs=4)


@pytest.mark.parametrize("kind", ["group", "d"])
def test_masked_frames_of_pre_training_are_transformers_own(kind, waveforms):
    encoder = make_encoder(kind, train="all")
    convolved, num_frames = encoder.convolved(*padded(waveforms))
    masked = torch.zeros(convolved.shape[:2], dtype=torch.bool)
    masked[:, 1:3] = True
    with torch.no_grad():
        context = encoder.context(convolved, num_frames, masked)
        for row, own_mask, count, waveform in zip(
            context, masked, num_frames.tolist(), waveforms, strict=True
        ):
            alone = encoder.model(waveform[None], mask_time_indices=own_mask[None, :count]).last_hidden_state[
                0
            ]
            assert torch.allclose(row[:count], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name, depth",
    [("encoder.layer.2.attention.output.dense.weight", 1), ("encoder.layer.0.output.dense.weight", 3),
     ("upsample.projection.weight", 1), ("encoder.rel_embeddings.weight", 4)],
)  # fmt: skip
def test_learning_rates_fall_with_depth(name, depth):
    encoder = make_encoder("d", train="all")
    names = {name for name, _ in encoder.named_parameters(prefix="encoder")}
    assert f"encoder.model.encoder.{name}" in names
    assert layer_depth(f"encoder.model.encoder.{name}", top=3, stable=encoder.stable) == depth


def test_the_folder_is_opened_by_name(tmp_path: Path):
    from w2v2.models.pretrained import load_encoder

    make_model("d").save_pretrained(tmp_path)
    encoder = load_encoder(EncoderConfig(name=str(tmp_path)), seed=0)
    stock = AutoModel.from_pretrained(tmp_path)
    assert encoder.model.config.model_type == "sew-d"
    for name, value in stock.state_dict().items():
        assert torch.equal(value, encoder.model.state_dict()[name])
