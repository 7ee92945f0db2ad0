"""Small models of pre-training with transformers' for comparison, and clips of noise."""

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from tests.made.encoders import moved
from w2v2.config.model import EncoderConfig
from w2v2.config.pretrain import LossConfig, MaskConfig
from w2v2.models.encoder import Encoder
from w2v2.models.pretrained import tiny_config
from w2v2.models.pretraining import HEAD, TINY, ContrastiveModel

MASK = MaskConfig(start_probability=0.1, span=3, num_negatives=7)
# Widths of the codes are multiples of 16: at others transformers, which compares vectors and not codes, takes some
# equal codes for different ones, as its matrix product rounds by the place of a row.
SMALL = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, conv_dim=(17, 19),
    conv_kernel=(10, 3), conv_stride=(5, 4), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    num_feat_extract_layers=2, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
    feat_proj_dropout=0.0, layerdrop=0.0, num_codevectors_per_group=5, codevector_dim=16, proj_codevector_dim=32,
)  # fmt: skip
GEOMETRIES = {
    "tiny": lambda: tiny_config().__class__.from_dict(tiny_config().to_dict() | TINY),
    "group": lambda: Wav2Vec2Config(**SMALL, feat_extract_norm="group", do_stable_layer_norm=False),
    "layer": lambda: Wav2Vec2Config(
        **SMALL, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True
    ),
}
LENGTHS = [4001, 2600, 3203, 1999]
TEMPERATURE = 1.3


def make_pair(geometry: str, **loss: float) -> tuple[Wav2Vec2ForPreTraining, ContrastiveModel]:
    """Transformers' model and ours with weights of its own copy."""
    torch.manual_seed(3)
    stock = moved(Wav2Vec2ForPreTraining(GEOMETRIES[geometry]()))
    ours = Wav2Vec2ForPreTraining(stock.config)
    ours.load_state_dict(stock.state_dict())
    encoder = Encoder(ours.wav2vec2, EncoderConfig(train="all"), normalize=True)
    model = ContrastiveModel(encoder, LossConfig(**loss))
    for name in HEAD:
        getattr(model, name).load_state_dict(getattr(stock, name).state_dict())
    return stock, model
