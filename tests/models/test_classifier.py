"""The head against plain matrix products, and the whole classifier against its parts."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.models.classifier import Classifier, Mlp
from w2v2.models.encoder import Encoder

DIM, NUM_LAYERS = 12, 2


def classifier(widths: tuple[int, ...] = (), dropout: float = 0.1, **settings) -> Classifier:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=DIM, num_hidden_layers=NUM_LAYERS, num_attention_heads=2, intermediate_size=20,
        conv_dim=(7, 7), conv_kernel=(10, 4), conv_stride=(5, 4), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    encoder = Encoder(Wav2Vec2Model(config), EncoderConfig(**settings), normalize=True)
    return Classifier(encoder, HeadConfig(widths=widths, dropout=dropout), groups=[3])


@pytest.mark.parametrize("widths", [(), (11,), (11, 7)])
def test_mlp_is_matrix_products_with_relu_between(widths):
    torch.manual_seed(0)
    mlp = Mlp(5, 3, HeadConfig(widths=widths)).eval()
    inputs = torch.randn(13, 5)
    hidden = inputs.numpy()
    layers = [layer for layer in mlp.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [*widths, 3]
    for index, layer in enumerate(layers):
        hidden = hidden @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if index < len(layers) - 1:
            hidden = np.maximum(hidden, 0)
    np.testing.assert_allclose(mlp(inputs).detach().numpy(), hidden, atol=1e-5)


def test_mlp_drops_out_before_every_layer_in_training_only():
    mlp = Mlp(5, 3, HeadConfig(widths=(11,), dropout=0.5))
    kinds = [type(layer).__name__ for layer in mlp.layers]
    assert kinds == ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    inputs = torch.randn(13, 5)
    assert not torch.equal(mlp(inputs), mlp(inputs))
    mlp.eval()
    assert torch.equal(mlp(inputs), mlp(inputs))


SETTINGS = [
    dict(train="all"), dict(train="head"), dict(train="head", pooling="mean+std"), dict(train="head", pooling="attention"),
    dict(train="last", layer="mix", pooling="mean+std"), dict(train="head", layer="mix"), dict(train="head", layer=1, pooling="max"),
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_logits_of_a_clip_do_not_depend_on_padding_or_batch(settings):
    model = classifier(widths=(11,), **settings).eval()
    torch.manual_seed(1)
    waveforms = [torch.randn(length) for length in (641, 2003, 307)]
    with torch.no_grad():
        rows = nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        together = model(*model.encoder.trunk(rows, torch.tensor([641, 2003, 307])))
        alone = [model(*model.encoder.trunk(w[None], torch.tensor([len(w)]))) for w in waveforms]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_logits_are_the_head_of_the_embedding(settings):
    model = classifier(**settings).eval()
    with torch.no_grad():
        features = model.encoder.trunk(torch.randn(2, 641), torch.tensor([641, 500]))
        embedding = model.embed(*features)
        torch.testing.assert_close(model(*features), model.heads[0](embedding))
    assert embedding.shape == (2, 2 * DIM if settings.get("pooling") == "mean+std" else DIM)


def test_a_mix_has_a_weight_for_every_state_and_only_a_mix_has():
    assert classifier(layer="mix").mix.logits.shape == (NUM_LAYERS + 1,)
    assert classifier().mix is None
    assert classifier().attention is None


def test_a_mix_before_pooling_equals_a_mix_after_it():
    """What lets encoder.train=head cache one vector per state instead of every frame."""
    before, after = (classifier(layer="mix", train=train, pooling="mean").eval() for train in ("all", "head"))
    with torch.no_grad():
        for model in (before, after):
            model.mix.logits.copy_(torch.tensor([0.5, -1.0, 2.0]))
        waveforms, num_samples = torch.randn(2, 641), torch.tensor([641, 400])
        assert after.encoder.cut.stage == "pooled"
        torch.testing.assert_close(
            before(*before.encoder.trunk(waveforms, num_samples)),
            after(*after.encoder.trunk(waveforms, num_samples)),
            atol=1e-5,
            rtol=1e-5,
        )
