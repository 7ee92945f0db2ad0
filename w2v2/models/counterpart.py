"""A trained model as a class of transformers with the same outputs, if there is one."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForCTC,
    PreTrainedModel,
    Wav2Vec2CTCTokenizer,
)

from w2v2.data.text import Vocabulary
from w2v2.models.architecture import CONFORMERS
from w2v2.models.classifier import Classifier
from w2v2.models.ctc import SpeechModel, Transcriber
from w2v2.models.model_info import ModelInfo

PROBLEM = {
    "classes": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


def has_counterpart(model: SpeechModel, info: ModelInfo) -> bool:
    """Whether transformers has a class with this architecture."""
    if info.kind == "transcript":
        return info.encoder.layer == "last" and not info.head.widths
    if model.encoder.model.config.model_type in (*CONFORMERS, "whisper"):
        return False  # their classes pool over padding, or have further layers
    # If the last layer has a separate normalisation, transformers mixes its output from before that.
    mix = info.encoder.layer == "mix" and not info.encoder.layers and not model.encoder.stable
    layers = info.encoder.layer == "last" or mix
    return layers and info.encoder.pooling == "mean" and not info.head.widths and not info.num_descriptors


def counterpart(model: SpeechModel, info: ModelInfo) -> PreTrainedModel:
    """The model as an instance of transformers' class; see has_counterpart."""
    if isinstance(model, Transcriber):
        return _ctc_counterpart(model, info)
    return _classifier_counterpart(model, info)


@torch.no_grad()
def _classifier_counterpart(model: Classifier, info: ModelInfo) -> PreTrainedModel:
    """Transformers' own classifier with the same outputs: its projection is the identity."""
    config = type(model.encoder.model.config).from_dict(model.encoder.model.config.to_dict())
    config.classifier_proj_size = model.encoder.dim
    config.use_weighted_layer_sum = model.mix is not None
    config.problem_type = PROBLEM[info.kind]
    config.num_labels = len(info.names)
    config.id2label = dict(enumerate(info.names))
    config.label2id = {name: index for index, name in enumerate(info.names)}
    stock = AutoModelForAudioClassification.from_config(config)
    stock.base_model.load_state_dict(model.encoder.model.state_dict())
    stock.projector.weight.copy_(torch.eye(model.encoder.dim))
    stock.projector.bias.zero_()
    lines: list[Any] = [head.layers[-1] for head in model.heads]  # type: ignore[index]
    weight = torch.cat([line.weight for line in lines])
    bias = torch.cat([line.bias for line in lines])
    if model.target_scaler is not None:
        weight, bias = weight * model.target_scaler.scale[:, None], model.target_scaler.restore(bias[None])[0]
    stock.classifier.weight.copy_(weight)
    stock.classifier.bias.copy_(bias)
    if model.mix is not None:
        stock.layer_weights.copy_(model.mix.logits)
    return stock


@torch.no_grad()
def _ctc_counterpart(model: Transcriber, info: ModelInfo) -> PreTrainedModel:
    """Transformers' own CTC model with the same logits."""
    assert info.vocabulary is not None
    config = type(model.encoder.model.config).from_dict(model.encoder.model.config.to_dict())
    config.vocab_size = model.num_outputs
    config.pad_token_id = info.vocabulary.blank
    for name in ("bos_token_id", "eos_token_id"):
        try:
            setattr(config, name, None)
        except StrictDataclassFieldValidationError:  # UniSpeech-SAT's must be numbers; nothing reads them
            setattr(config, name, info.vocabulary.blank)
    stock = AutoModelForCTC.from_config(config)
    stock.base_model.load_state_dict(model.encoder.model.state_dict())
    line: Any = model.head.layers[-1]
    stock.lm_head.weight.copy_(line.weight)
    stock.lm_head.bias.copy_(line.bias)
    return stock


def save_tokenizer(vocabulary: Vocabulary, folder: Path) -> None:
    """Write vocab.json and tokenizer_config.json, from which transformers decodes the same text."""
    with tempfile.TemporaryDirectory(prefix="w2v2-vocab-") as scratch:
        place = Path(scratch) / "vocab.json"
        place.write_text(vocabulary.to_json(), encoding="utf-8")
        special = {token: token for token in vocabulary.special}
        tokenizer = Wav2Vec2CTCTokenizer(
            place,
            pad_token=vocabulary.tokens[vocabulary.blank],
            # Without these transformers would add further tokens, for which the model has no outputs.
            bos_token=special.get("<s>"),
            eos_token=special.get("</s>"),
            unk_token=special.get("<unk>"),
            # Without a word delimiter it is the blank, which is never written: transformers would add '|' when it
            # reads the file.
            word_delimiter_token=vocabulary.word_delimiter or vocabulary.tokens[vocabulary.blank],
        )
        tokenizer.save_pretrained(folder)
