"""What the program starts on a GPU for a batch: few operations a layer, and nothing for which it waits in between."""

import pytest
import torch

from tests.models.simulated_gpu import GPU, simulated
from tests.models.test_encoder import MODELS, SMALL
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.inference.embedding import normalized_rows
from w2v2.models.classifier import Classifier
from w2v2.models.device import to_device
from w2v2.models.encoder import Encoder

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
KINDS = ("wav2vec2-group", "wav2vec2-layer", "hubert-group", "unispeech-sat", "data2vec")
LENGTHS = torch.tensor([2711, 8000, 1999])


def encoder_of(kind, *, num_layers=3, train="head", **settings):
    config_class, model_class, extra = MODELS[kind]
    sizes = {**SMALL, **extra, "num_hidden_layers": num_layers, "hidden_size": 32}
    with GPU:
        model = model_class(config_class(**sizes))
        model.masked_spec_embed = torch.nn.Parameter(torch.empty(32))  # made on the CPU by transformers
    return Encoder(model, EncoderConfig(train=train, **settings), normalize=True).eval()


def embed(encoder):
    """A batch of pooled_vectors."""
    padded = to_device(torch.zeros(3, 8000), GPU)
    with torch.no_grad():
        return encoder.trunk(normalized_rows(padded, LENGTHS), LENGTHS)


def operations_of(kind, num_layers, monkeypatch):
    with simulated(monkeypatch) as gpu:
        encoder = encoder_of(kind, num_layers=num_layers)
        embed(encoder)  # rounds the weights
        gpu.forget()
        embed(encoder)
    return gpu


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_starts_ten_kernels_in_extraction(kind, monkeypatch):
    few, many = (operations_of(kind, num_layers, monkeypatch) for num_layers in (2, 4))
    assert few.waits == many.waits == []
    by_layer = {name: count / 2 for name, count in (many.kernels - few.kernels).items()}
    assert by_layer == {
        "addmm": 4, "_flash_attention_forward": 1, "add": 2, "native_layer_norm": 2, "gelu": 1,
    }  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("kind", [*KINDS, "wavlm-layer"])
def test_the_program_does_not_wait_within_a_batch(kind, precision, monkeypatch):
    with simulated(monkeypatch, precision) as gpu:
        encoder = encoder_of(kind, pooling="mean+std")
        gpu.forget()
        embed(encoder)
        assert gpu.kernels and not gpu.waits


@pytest.mark.parametrize("pooling", ["mean", "attention", "attentive_statistics"])
@pytest.mark.parametrize("train", ["all", "no_conv", "last"])
def test_the_program_does_not_wait_before_the_loss(train, pooling, monkeypatch):
    with simulated(monkeypatch) as gpu:
        encoder = encoder_of("wav2vec2-group", train=train, pooling=pooling, num_last_layers=1)
        with GPU:
            model = Classifier(encoder, HeadConfig(), groups=[3])
        features, lengths = encoder.trunk(to_device(torch.zeros(3, 8000), GPU), LENGTHS)
        encoder.mask_time_fraction = 0.2
        gpu.forget()
        model.train()(features, lengths)
        assert gpu.kernels["_flash_attention_forward"] and not gpu.waits


def test_waiting_is_seen(monkeypatch):
    with simulated(monkeypatch) as gpu:
        tensor = LENGTHS.to(GPU)
        assert tensor.is_cuda and gpu.waits == ["_to_copy of (3,) to the GPU"]
        to_device(LENGTHS, GPU)
        assert len(gpu.waits) == 1
        with pytest.raises(Exception, match="_local_scalar_dense"):
            tensor.sum().item()
        assert gpu.waits[1:] == ["_local_scalar_dense"]
