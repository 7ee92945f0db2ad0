"""CTC models that were not trained here, such as facebook/wav2vec2-base-960h, in the form of a SavedModel."""

import torch

from w2v2.config.data import AudioConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.config.text import TextConfig
from w2v2.models.any_model import WANTED
from w2v2.models.architecture import refuse_unusable
from w2v2.models.ctc import Transcriber
from w2v2.models.ctc_checkpoint import read_output_layer, read_vocabulary
from w2v2.models.model_info import ModelInfo
from w2v2.models.pretrained import load_encoder, read_model_config
from w2v2.models.saved_model import SavedModel, model_digest


@torch.no_grad()
def load_foreign(name: str, text: TextConfig) -> SavedModel:
    """The CTC model of a hub repository, a local or a gs:// folder, in evaluation mode on the CPU.

    text says how references are normalised before they are compared with its transcripts. Raises UserError if the folder
    has no CTC model, or one whose vocabulary is not of single characters.
    """
    refuse_unusable(name, field="model")
    vocabulary = read_vocabulary(name, field="model", wanted=WANTED)
    encoder = EncoderConfig(name=name, pooling="none")
    num_outputs = len(vocabulary.tokens)
    weight, bias = read_output_layer(encoder, num_outputs, field="the output layer of model", wanted=WANTED)
    head = HeadConfig(dropout=0.0)
    model = Transcriber(
        load_encoder(encoder, seed=0), head, num_outputs=num_outputs, blank=vocabulary.blank
    ).eval()
    layer = model.head.layers[-1]
    assert isinstance(layer, torch.nn.Linear)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    info = ModelInfo(
        kind="transcript",
        groups=(vocabulary.tokens,),
        audio=AudioConfig(),
        encoder=encoder,
        head=head,
        normalize=model.encoder.normalize,
        text=text,
        vocabulary=vocabulary,
    )
    return SavedModel(model=model, info=info, digest=model_digest(model, info))


def read_foreign_convolutions(name: str) -> tuple[list[int], list[int]]:
    """Kernels and strides of the encoder's convolutions."""
    config, _ = read_model_config(name)
    return list(config.conv_kernel), list(config.conv_stride)
