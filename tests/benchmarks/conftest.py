"""Small encoders and clips of the benchmarks' tests."""

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from w2v2.benchmarks import encoders, synthetic_clips, transformers_trainer


@pytest.fixture(scope="module")
def group_norm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small encoder of the kind that stock code gets wrong under padding, with 48 kernels of positions."""
    folder = tmp_path_factory.mktemp("group_norm")
    config = Wav2Vec2Config(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40, conv_dim=(16, 20, 28),
        conv_kernel=(10, 3, 2), conv_stride=(5, 8, 8), num_conv_pos_embeddings=48, num_conv_pos_embedding_groups=4,
        layerdrop=0.0, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
        apply_spec_augment=False,
    )  # fmt: skip
    torch.manual_seed(3)
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return encoders.encoder_folder("tiny", tmp_path_factory.mktemp("tiny"), seed=5)


@pytest.fixture(scope="module")
def clips() -> transformers_trainer.LabelledClips:
    lengths_s = np.linspace(0.5, 1.3, 11)
    return transformers_trainer.LabelledClips(
        waveforms=synthetic_clips.waveforms(lengths_s, seed=2),
        targets=np.arange(11) % 3,
        folds=np.arange(11) % 2,
        num_classes=3,
    )
