"""Small encoders with random weights, and their folders."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from w2v2.config.model import EncoderConfig
from w2v2.models.encoder import Encoder
from w2v2.models.pretrained import load_encoder

SMALL = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, conv_dim=(17, 17), conv_kernel=(10, 3),
    conv_stride=(5, 4), num_feat_extract_layers=2, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=9,
)  # fmt: skip


def load(name: Path | str, seed: int = 0) -> Encoder:
    return load_encoder(EncoderConfig(name=str(name)), seed=seed)


def random_model(model_class=Wav2Vec2Model, config_class=Wav2Vec2Config, **extra):
    torch.manual_seed(1)
    return model_class(config_class(**SMALL, **extra))


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every parameter off its initial value: a missing scale or shift must show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def padded(waveforms: list[torch.Tensor], fill: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """The waveforms as rows filled up with a value, and their lengths."""
    rows = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=fill)
    return rows, torch.tensor([len(waveform) for waveform in waveforms])


def noise(lengths: Sequence[int]) -> list[torch.Tensor]:
    """A waveform of noise of each length, each with a level and an offset of its own."""
    torch.manual_seed(5)
    return [torch.randn(length) * (0.5 + index) + 0.1 * index for index, length in enumerate(lengths)]


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
