"""A trained model as a folder: transformers opens it, `load_model` gives all of it back."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import safetensors.torch
import torch
from jaxtyping import Shaped
from torch import Tensor
from transformers import AutoModelForAudioClassification, Wav2Vec2FeatureExtractor

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.data import FIRST_AUDIO_FIELDS, AudioConfig
from w2v2.config.digest import changed
from w2v2.errors import UserError
from w2v2.models import provenance
from w2v2.models.classifier import Classifier
from w2v2.models.model_info import FORMAT, ModelInfo, card_block, read_info
from w2v2.models.pretrained import load_encoder
from w2v2.storage import files as storage
from w2v2.storage.seals import seal_json

PROBLEM = {
    "classes": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A model read back from its folder."""

    model: Classifier
    info: ModelInfo
    digest: str


def save_model(
    uri: str, model: Classifier, info: ModelInfo, *, card: Mapping[str, Any], made_from: pa.Table
) -> str:
    """The model's digest, once its folder is written: w2v2.json, which says it is whole, comes last.

    made_from are the clips (speaker, audio_digest) that made it, of which the folder keeps marks.

    Where the architecture has a counterpart in transformers (mean pooling of the last layer or a mix of
    all where no normalisation follows the last, one linear layer per head, nothing joined), AutoModelForAudioClassification opens the folder and
    gives the same outputs; AutoModel gives the encoder of any.
    """
    digest = model_digest(model, info)
    whole = has_counterpart(model, info)
    with tempfile.TemporaryDirectory(prefix="w2v2-model-") as scratch:
        folder = Path(scratch)
        (_counterpart(model, info) if whole else model.encoder.model).save_pretrained(folder)
        extractor = Wav2Vec2FeatureExtractor(
            sampling_rate=SAMPLE_RATE, do_normalize=info.normalize, return_attention_mask=False
        )
        extractor.save_pretrained(folder)
        safetensors.torch.save_file(_own_state(model), folder / "head.safetensors")
        (folder / "README.md").write_text(_card_text(info, card, digest, whole=whole))
        for path in sorted(folder.iterdir()):
            storage.write_bytes(storage.join(uri, path.name), path.read_bytes())
    provenance.write(uri, made_from, encoder=info.encoder.name)
    about = {"format": FORMAT, "digest": digest, "info": asdict(info), "card": dict(card)}
    storage.write_text(storage.join(uri, "w2v2.json"), seal_json(about, indent=2) + "\n")
    return digest


def load_model(uri: str) -> SavedModel:
    """The model of a folder, in evaluation mode on the CPU; raises UserError for a folder that is damaged."""
    info, digest = read_info(uri)
    encoder = load_encoder(replace(info.encoder, name=uri, train="all"), seed=0)
    model = Classifier(
        encoder,
        info.head,
        groups=[len(group) for group in info.groups],
        num_descriptors=info.num_descriptors,
        denormalize=info.kind == "regression",
    )
    state = safetensors.torch.load(storage.read_bytes(storage.join(storage.expand(uri), "head.safetensors")))
    model.load_state_dict(state, strict=False)
    if model_digest(model, info) != digest:
        raise UserError(f"model {uri!r} is damaged: its weights are not those it was saved with")
    return SavedModel(model=model.eval(), info=info, digest=digest)


def model_digest(model: Classifier, info: ModelInfo) -> str:
    """SHA-256 over encoder, head and what they predict, 16 hex digits."""
    encoder = info.encoder
    about: list[Any] = [info.kind, info.groups, _audio_settings(info.audio), info.normalize]
    about += [encoder.pooling, encoder.layer, encoder.layers, model.encoder.model.config.model_type]
    total = hashlib.sha256(json.dumps(about).encode())
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name} {tuple(value.shape)};".encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def _audio_settings(audio: AudioConfig) -> dict[str, Any]:
    """The fields that AudioConfig began with, and of later ones those that differ from their defaults.

    So the digest of a model stays when a field is added.
    """
    first = {name: getattr(audio, name) for name in FIRST_AUDIO_FIELDS}
    return first | {name: value for name, value in changed(audio).items() if name not in first}


def has_counterpart(model: Classifier, info: ModelInfo) -> bool:
    """Whether transformers has this architecture whole."""
    # Where the last layer is normalised apart, transformers mixes it as it was before that.
    mix = info.encoder.layer == "mix" and not info.encoder.layers and not model.encoder.stable
    layers = info.encoder.layer == "last" or mix
    return layers and info.encoder.pooling == "mean" and not info.head.widths and not info.num_descriptors


def _own_state(model: Classifier) -> dict[str, Shaped[Tensor, "..."]]:
    """All that is not the encoder's."""
    state = model.state_dict().items()
    return {name: v.detach().cpu().contiguous() for name, v in state if not name.startswith("encoder.")}


@torch.no_grad()
def _counterpart(model: Classifier, info: ModelInfo) -> Any:
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
    if model.units is not None:
        weight, bias = weight * model.units.scale[:, None], model.units.restore(bias[None])[0]
    stock.classifier.weight.copy_(weight)
    stock.classifier.bias.copy_(bias)
    if model.mix is not None:
        stock.layer_weights.copy_(model.mix.logits)
    return stock


def _card_text(info: ModelInfo, card: Mapping[str, Any], digest: str, *, whole: bool) -> str:
    opens = (
        "AutoModelForAudioClassification opens this folder and gives the outputs."
        if whole
        else "AutoModel opens this folder and gives the encoder; w2v2.models.saved_model.load_model gives the whole model."
    )
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: audio-classification",
        "---",
        f"# {info.encoder.name} for {', '.join(info.names)}",
        "",
        f"A {info.kind.replace('_', '-')} model of 16 kHz mono speech or music, digest `{digest}`. {opens}",
        "",
        card_block(card),
        "",
    ]
    return "\n".join(lines)
