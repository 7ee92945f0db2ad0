"""Small classifiers and clips of the training tests."""

import numpy as np
import torch
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.config.resources import Precision
from w2v2.features.batches import ClipSet
from w2v2.features.trunk_features import run_trunk
from w2v2.models.classifier import Classifier
from w2v2.models.encoder import Encoder
from w2v2.training import trainer
from w2v2.training.fold_result import Epoch

NUM_CLASSES, NUM_LAYERS = 3, 3


SMALL = dict(
    hidden_size=16, num_hidden_layers=NUM_LAYERS, num_attention_heads=2, intermediate_size=20, conv_dim=(11, 13),
    conv_kernel=(10, 8), conv_stride=(5, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
)  # fmt: skip


LENGTHS = [803, 401, 1201, 799, 601, 997, 577, 1009, 883, 443, 701]


# A large eps keeps Adam from blowing the rounding of a gradient that is nearly zero up to a whole step.
OPTIM = OptimConfig(learning_rate=0.01, eps=1e-3, batch_size=4, warmup_fraction=0.2)


TRAINING = TrainingConfig(num_epochs=2)


def classifier(*, dropout: float = 0.0, kind: str = "wav2vec2", **settings) -> Classifier:
    """A small classifier, the same at every call."""
    torch.manual_seed(11)
    drops = dict(
        hidden_dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        feat_proj_dropout=dropout,
    )
    model_class, config_class, extra = {
        "wav2vec2": (Wav2Vec2Model, Wav2Vec2Config, {}),
        "hubert": (HubertModel, HubertConfig, dict(conv_pos_batch_norm=True)),
    }[kind]  # fmt: skip
    encoder = Encoder(
        model_class(config_class(**SMALL, **drops, **extra)), EncoderConfig(**settings), normalize=True
    )
    return Classifier(encoder, HeadConfig(widths=(7,), dropout=dropout), groups=[NUM_CLASSES])


def waveforms(lengths: list[int] = LENGTHS) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.normal(size=length).astype(np.float32) for length in lengths]


def clip_set(encoder: Encoder, lengths: list[int] = LENGTHS) -> ClipSet:
    """Noise with lopsided classes, as features at the encoder's cut."""
    features = run_trunk(encoder, waveforms(lengths))
    targets = np.array([0, 1, 2, 0, 0, 1, 0, 0, 2, 0, 0])[: len(lengths)]
    return ClipSet(features=features, lengths=np.array(lengths), targets=targets)


def trained(
    model: Classifier,
    *,
    optim: OptimConfig = OPTIM,
    training: TrainingConfig = TRAINING,
    seed: int = 0,
    precision: Precision = "float32",
) -> tuple[dict[str, torch.Tensor], list[Epoch]]:
    """Weights and curve after train()."""
    curve = trainer.train(
        model, clip_set(model.encoder), optim=optim, training=training, seed=seed, precision=precision
    )
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, curve


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(
            tensor, b[name], atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def moved(model: nn.Module, weights: dict[str, torch.Tensor], least: float = 1e-3) -> bool:
    """Whether training moved some weight by more than `least`, so that equality means something."""
    return any((weights[name] - tensor).abs().max() > least for name, tensor in model.state_dict().items())


def clip_logits(model: Classifier, waveform: np.ndarray) -> torch.Tensor:
    """Logits of one clip alone by transformers' own forward, a mean over frames and the head."""
    hidden = model.encoder.model(torch.from_numpy(waveform)[None]).last_hidden_state
    return model.heads[0](hidden.mean(1))
