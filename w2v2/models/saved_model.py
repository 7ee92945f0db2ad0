"""A trained model as a folder: transformers opens it, `load_model` restores all of it."""

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import safetensors.torch
from jaxtyping import Shaped
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.data import FIRST_AUDIO_FIELDS
from w2v2.config.digest import first_and_changed
from w2v2.config.text import FIRST_TEXT_FIELDS
from w2v2.errors import UserError
from w2v2.json_types import Json, JsonObject
from w2v2.models import provenance
from w2v2.models.architecture import refuse_unusable
from w2v2.models.classifier import Classifier
from w2v2.models.counterpart import counterpart, has_counterpart, save_tokenizer
from w2v2.models.ctc import SpeechModel, Transcriber
from w2v2.models.decoder import kept_files
from w2v2.models.encoder import Encoder
from w2v2.models.ensemble import ensemble_digest
from w2v2.models.folder_files import file_entries
from w2v2.models.model_card import write_card
from w2v2.models.model_info import FORMAT, ModelInfo, read_info, read_members
from w2v2.models.pretrained import load_encoder, turn_off_messages
from w2v2.redaction import public_text, public_values
from w2v2.storage import files as storage
from w2v2.storage.seals import seal_json


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A model read back from its folder."""

    model: SpeechModel
    info: ModelInfo
    digest: str
    others: tuple[SpeechModel, ...] = ()
    """The other members of an ensemble: their outputs and the outputs of model are averaged."""


def save_model(
    uri: str, model: SpeechModel, info: ModelInfo, *, card: JsonObject, made_from: pa.Table
) -> str:
    """The model's digest, after its folder has been written: w2v2.json, which marks it as complete, comes last.

    made_from are its training clips (speaker, audio_digest), of which the folder keeps hashes.

    Where the architecture has a counterpart in transformers, AutoModelForAudioClassification or AutoModelForCTC opens
    the folder and returns the same outputs, and pipeline("automatic-speech-recognition") the same text. Models with a
    counterpart have mean pooling of the last layer, or of a mix of all layers where no normalisation follows the last
    one, one linear layer per head, and nothing joined; for transcripts, the last layer and one linear layer. AutoModel
    opens the encoder of every folder.
    """
    card = public_values(dict(card))
    digest = model_digest(model, info)
    whole = has_counterpart(model, info)
    turn_off_messages()
    with tempfile.TemporaryDirectory(prefix="w2v2-model-") as scratch:
        folder = Path(scratch)
        (counterpart(model, info) if whole else model.encoder.model).save_pretrained(folder)
        extractor = model.encoder.extractor or Wav2Vec2FeatureExtractor(
            sampling_rate=SAMPLE_RATE, do_normalize=info.normalize, return_attention_mask=False
        )
        extractor.save_pretrained(folder)
        if info.vocabulary is not None:
            save_tokenizer(info.vocabulary, folder)
        safetensors.torch.save_file(_state_outside_encoder(model), folder / "head.safetensors")
        contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    if info.decode is not None:
        decode, files = kept_files(info.decode)
        info, contents = replace(info, decode=decode), contents | files
    for name, body in contents.items():
        storage.write_bytes(storage.join(uri, name), body)
    provenance.write(uri, made_from, encoder=info.encoder.name)
    opened_by = _stock_class(info) if whole else ""
    write_card(uri, info, card, digest, opened_by=opened_by)
    about: dict[str, Json] = {
        "format": FORMAT,
        "digest": digest,
        "info": _fields(info),
        "opened_by": opened_by,
        "card": dict(card),
        "files": file_entries(contents),
    }
    storage.write_text(storage.join(uri, "w2v2.json"), seal_json(about, indent=2) + "\n")
    return digest


def load_model(uri: str) -> SavedModel:
    """The model of a folder, or all of an ensemble, in evaluation mode on the CPU. Raises UserError for a damaged folder."""
    info, digest = read_info(uri)
    if members := read_members(uri):
        saved = [load_model(member) for member in members]
        if ensemble_digest([member.digest for member in saved]) != digest:
            raise UserError(f"model {uri!r} is damaged: its members are not those it was saved with")
        first, *others = (member.model for member in saved)
        return SavedModel(model=first, info=info, digest=digest, others=tuple(others))
    refuse_unusable(uri, field="model")
    encoder = load_encoder(replace(info.encoder, name=uri, train="all"), seed=0)
    model = _built(encoder, info)
    place = storage.join(storage.expand(uri), "head.safetensors")
    try:
        model.load_state_dict(safetensors.torch.load(storage.read_bytes(place)), strict=False)
    except (safetensors.SafetensorError, RuntimeError) as error:  # no such file, or weights of other shapes
        raise UserError(
            f"model {uri!r} is damaged: head.safetensors belongs to another model; copy the whole folder again"
        ) from error
    if model_digest(model, info) != digest:
        raise UserError(f"model {uri!r} is damaged: its weights are not those it was saved with")
    return SavedModel(model=model.eval(), info=info, digest=digest)


def _built(encoder: Encoder, info: ModelInfo) -> SpeechModel:
    """The model with weights that must still be loaded."""
    if info.vocabulary is not None:
        return Transcriber(encoder, info.head, num_outputs=len(info.names), blank=info.vocabulary.blank)
    return Classifier(
        encoder,
        info.head,
        groups=[len(group) for group in info.groups],
        num_descriptors=info.num_descriptors,
        denormalize=info.kind == "regression",
    )


def _stock_class(info: ModelInfo) -> str:
    """The class of transformers that has the whole architecture."""
    return "AutoModelForAudioClassification" if info.vocabulary is None else "AutoModelForCTC"


def _fields(info: ModelInfo) -> dict[str, Json]:
    """The fields as JSON, without fields of other tasks and without the encoder's path on this machine."""
    shown = replace(info, encoder=replace(info.encoder, name=public_text(info.encoder.name)))
    return {name: value for name, value in asdict(shown).items() if value is not None}


def model_digest(model: SpeechModel, info: ModelInfo) -> str:
    """SHA-256 over encoder, head and the names of the outputs, 16 hex digits.

    Hashed by itself and not by config.digest.settings_digest, as cards, tables and caches of earlier versions have it.
    """
    encoder = info.encoder
    about: list[object] = [info.kind, info.groups, first_and_changed(info.audio, FIRST_AUDIO_FIELDS)]
    about += [
        info.normalize,
        encoder.pooling,
        encoder.layer,
        encoder.layers,
        model.encoder.model.config.model_type,
    ]
    if info.vocabulary is not None and info.text is not None:
        about += [first_and_changed(info.text, FIRST_TEXT_FIELDS), asdict(info.vocabulary)]
    total = hashlib.sha256(json.dumps(about).encode())
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name} {tuple(value.shape)};".encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def _state_outside_encoder(model: SpeechModel) -> dict[str, Shaped[Tensor, "..."]]:
    """All tensors outside of the encoder."""
    state = model.state_dict().items()
    return {name: v.detach().cpu().contiguous() for name, v in state if not name.startswith("encoder.")}
