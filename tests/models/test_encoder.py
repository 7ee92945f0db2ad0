"""A clip's vectors depend on the clip alone, equal transformers' own, and the cut changes nothing."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    UniSpeechSatConfig,
    UniSpeechSatModel,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerModel,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from tests.made.encoders import moved, noise, padded

SMALL = dict(
    hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40, conv_dim=(17, 17, 17),
    conv_kernel=(10, 3, 2), conv_stride=(5, 4, 2), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    num_feat_extract_layers=3,
)  # fmt: skip
MODELS = {
    "wav2vec2-group": (Wav2Vec2Config, Wav2Vec2Model, dict(feat_extract_norm="group", do_stable_layer_norm=False)),
    "wav2vec2-layer": (Wav2Vec2Config, Wav2Vec2Model, dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)),
    "hubert-group": (HubertConfig, HubertModel, dict(feat_extract_norm="group", do_stable_layer_norm=False)),
    "hubert-batch-norm": (HubertConfig, HubertModel, dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_pos_batch_norm=True)),
    "wavlm-group": (WavLMConfig, WavLMModel, dict(feat_extract_norm="group", do_stable_layer_norm=False, num_buckets=32)),
    "wavlm-layer": (WavLMConfig, WavLMModel, dict(feat_extract_norm="layer", do_stable_layer_norm=True, num_buckets=32)),
    "unispeech-sat": (UniSpeechSatConfig, UniSpeechSatModel, dict(feat_extract_norm="group", do_stable_layer_norm=False)),
    "conformer-relative": (Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel, dict(conv_depthwise_kernel_size=5, position_embeddings_type="relative")),
    "conformer-rotary": (Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel, dict(conv_depthwise_kernel_size=5, position_embeddings_type="rotary")),
    "data2vec": (Data2VecAudioConfig, Data2VecAudioModel, dict(conv_pos_kernel_size=5, num_conv_pos_embeddings=3)),
}  # fmt: skip
LENGTHS = [50, 51, 400, 2711, 8000, 1999, 8000]


def make_model(kind: str):
    config_class, model_class, extra = MODELS[kind]
    torch.manual_seed(3)
    model = moved(model_class(config_class(**{**SMALL, **extra})).eval())
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.3)
    return model


def make_encoder(kind: str, **settings):
    from w2v2.config.model import EncoderConfig
    from w2v2.models.encoder import Encoder

    return Encoder(make_model(kind), EncoderConfig(**settings), normalize=True).eval()


@pytest.fixture
def waveforms() -> list[torch.Tensor]:
    return noise(LENGTHS)


@pytest.mark.parametrize("kind", MODELS)
def test_padded_batch_equals_transformers_on_each_clip_alone(kind, waveforms):
    encoder = make_encoder(kind, train="all")
    with torch.no_grad():
        states, num_frames = encoder(*padded(waveforms))
        for row, count, waveform in zip(states, num_frames, waveforms, strict=True):
            alone = encoder.model(waveform[None]).last_hidden_state[0]
            assert alone.shape[0] == count
            assert torch.allclose(row[:count], alone, atol=1e-4, rtol=0)
            assert torch.allclose(row[:count].mean(0), alone.mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("layer", [0, 2])
def test_hidden_states_are_transformers_own(kind, layer, waveforms):
    encoder = make_encoder(kind, train="all", layer=layer)
    with torch.no_grad():
        states, num_frames = encoder(*padded(waveforms))
        for row, count, waveform in zip(states, num_frames, waveforms, strict=True):
            alone = encoder.model(waveform[None], output_hidden_states=True).hidden_states[layer][0]
            assert torch.allclose(row[:count], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "wav2vec2-layer", "wavlm-layer"])
def test_values_in_the_padding_do_not_matter(kind, waveforms):
    encoder = make_encoder(kind, train="all")
    with torch.no_grad():
        zeros, num_frames = encoder(*padded(waveforms))
        noise, _ = encoder(*padded(waveforms, fill=100.0))
    for a, b, count in zip(zeros, noise, num_frames, strict=True):
        assert torch.allclose(a[:count], b[:count], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "wav2vec2-layer", "wavlm-group", "data2vec"])
def test_gradient_of_a_padded_batch_is_the_sum_of_single_clips(kind, waveforms):
    from w2v2.models.pooling import pool

    encoder = make_encoder(kind, train="all")

    def gradients(batch):
        encoder.zero_grad()
        states, num_frames = encoder(*padded(batch))
        pool(states, num_frames, "mean").square().sum().backward()
        return {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}

    together = gradients(waveforms)
    alone = [gradients([waveform]) for waveform in waveforms]
    for name, gradient in together.items():
        expected = sum(one.get(name, torch.zeros_like(gradient)) for one in alone)
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-4 * (1 + expected.abs().max())), name


SETTINGS = [
    dict(train="no_conv"), dict(train="last", num_last_layers=1), dict(train="last", num_last_layers=3),
    dict(train="last", num_last_layers=2, layer="mix"), dict(train="last", num_last_layers=2, layer=2), dict(train="head"),
    dict(train="head", layer=1, pooling="max"), dict(train="head", layer="mix"),
    dict(train="head", layer="mix", pooling="mean+std"), dict(train="head", pooling="attention"),
    dict(train="no_conv", layer="mix", pooling="sum"), dict(train="head", layer="mix", pooling="attention"),
    dict(train="head", layer="mix", layers=(0, 2)), dict(train="last", num_last_layers=2, layer="mix", layers=(0, 2)),
    dict(train="head", layer="concat", layers=(1, 3), pooling="mean+std"), dict(train="all", layer="concat"),
    dict(train="last", num_last_layers=1, layer="concat", layers=(1, 3), pooling="attention"),
    dict(train="head", layer="concat", layers=(1, 2), pooling="attention"),
    dict(train="head", pooling="attentive_statistics"), dict(train="last", layer="mix", pooling="attentive_statistics"),
    dict(train="head", layer="concat", layers=(1, 2), pooling="attentive_statistics"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["wav2vec2-group", "wav2vec2-layer", "wavlm-layer", "conformer-relative"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_trunk_then_tail_equals_the_whole(kind, settings, waveforms):
    from w2v2.config.model import HeadConfig
    from w2v2.models.classifier import Classifier

    def logits(**settings):
        torch.manual_seed(7)
        model = Classifier(make_encoder(kind, **settings), HeadConfig(widths=(11,)), groups=[5]).eval()
        with torch.no_grad():
            return model(*model.encoder.trunk(*padded(waveforms)))

    assert torch.allclose(logits(**settings), logits(**{**settings, "train": "all"}), atol=2e-5)


@pytest.mark.parametrize("settings", [dict(train="all"), *SETTINGS], ids=str)
def test_what_is_trained_gets_gradients_and_nothing_else(settings, waveforms):
    from w2v2.config.model import HeadConfig
    from w2v2.models.classifier import Classifier

    model = Classifier(make_encoder("wav2vec2-layer", **settings), HeadConfig(), groups=[5]).train()
    model(*model.encoder.trunk(*padded(waveforms))).square().sum().backward()
    unused = {"encoder.model.masked_spec_embed"}
    for name, parameter in model.named_parameters():
        if name not in unused:
            assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("train, moves", [("all", True), ("no_conv", True), ("last", True), ("head", False)])
def test_only_the_trained_part_drops_out(train, moves, waveforms):
    encoder = make_encoder("wav2vec2-group", train=train, num_last_layers=1).train()
    batch = padded(waveforms)
    trunks = [encoder.trunk(*batch)[0] for _ in range(2)]
    assert torch.equal(*trunks)
    if moves:
        tails = [encoder(*encoder.trunk(*batch))[0] for _ in range(2)]
        assert not torch.equal(*tails)


def test_spec_augment_masks_about_the_fraction_asked_for():
    from w2v2.models.encoder import _spans

    torch.manual_seed(0)
    covered = _spans((50, 2000), 0.2, torch.device("cpu")).float().mean().item()
    assert abs(covered - (1 - (1 - 0.02) ** 10)) < 0.01


def test_spec_augment_acts_in_training_only(waveforms):
    encoder = make_encoder("wav2vec2-layer", train="all")
    encoder.mask_time_fraction = encoder.mask_feature_fraction = 0.5
    plain = make_encoder("wav2vec2-layer", train="all")
    with torch.no_grad():
        assert torch.equal(encoder(*padded(waveforms))[0], plain(*padded(waveforms))[0])
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        encoder.train()
        assert not torch.allclose(encoder(*padded(waveforms))[0], plain(*padded(waveforms))[0], atol=1e-3)


def test_spec_augment_of_a_model_without_a_learnt_mask_fills_in_zeros(waveforms):
    from w2v2.config.model import EncoderConfig
    from w2v2.models.encoder import Encoder

    torch.manual_seed(0)
    settings = dict(
        mask_time_prob=0.0, mask_feature_prob=0.0, feat_extract_norm="layer", do_stable_layer_norm=True
    )
    model = Wav2Vec2Model(Wav2Vec2Config(**{**SMALL, **settings}))
    encoder = Encoder(model, EncoderConfig(), normalize=True).train()
    encoder.mask_time_fraction = 0.9
    hidden = encoder._spec_augment(torch.ones(2, 50, 24))
    assert set(hidden.unique().tolist()) == {0.0, 1.0}


def test_batch_norm_of_some_huberts_never_sees_the_batch(waveforms):
    encoder = make_encoder("hubert-batch-norm", train="all").train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in encoder.model.encoder.layers:
        layer.attention.dropout = 0.0
    with torch.no_grad():
        together, num_frames = encoder(*padded(waveforms))
        alone, _ = encoder(*padded(waveforms[2:3]))
    assert torch.allclose(together[2, : num_frames[2]], alone[0], atol=1e-4)


def test_min_samples_gives_exactly_one_frame():
    encoder = make_encoder("wav2vec2-group")
    shortest = encoder.min_samples
    assert encoder.num_frames(torch.tensor([shortest - 1, shortest])).tolist() == [0, 1]


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(layer=4), r"encoder.layer must be at most 3, the layers of tiny, got 4"),
        (dict(train="last", num_last_layers=4), r"encoder.num_last_layers must be at most 3, .* got 4"),
        (
            dict(train="last", num_last_layers=1, layer=2),
            r"encoder.layer 2 lies below the last 1 of 3 layers",
        ),
    ],
)
def test_impossible_choices_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_encoder("wav2vec2-group", **settings)


def test_other_architectures_are_refused():
    from w2v2.config.model import EncoderConfig
    from w2v2.models.encoder import Encoder

    model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9))  # fmt: skip
    with pytest.raises(ValueError, match="is a bert model; wanted one of wav2vec2, hubert"):
        Encoder(model, EncoderConfig(name="some/bert"), normalize=True)
