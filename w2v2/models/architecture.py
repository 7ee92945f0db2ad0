"""What a model's files say of it without its weights and without torch: mistakes that they show before workers start."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.models.cut import cut_for
from w2v2.models.pretrained_name import check_folder, local_path
from w2v2.storage import files as storage

CONFORMERS = ("wav2vec2-conformer", "wav2vec2-bert")
SQUEEZED = ("sew", "sew-d")
"""Models whose layers run on fewer frames than the convolutions make."""
WAVEFORM_FAMILIES = (
    *("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio"),
    *("wav2vec2-conformer", *SQUEEZED),
)
SPECTRUM_FAMILIES = ("wav2vec2-bert", "whisper")
"""Models of log-mel spectra, which their own feature extractors make."""
FAMILIES = (*WAVEFORM_FAMILIES, *SPECTRUM_FAMILIES)
"""The model types that an Encoder takes."""

KEPT_VOCABULARY = "text.vocab=model, but encoder.name"
TO_KEEP_ONE = "wanted the folder or hub name of a CTC model with vocab.json, or --text.vocab train"

UNREACHABLE = (
    "the Hugging Face hub cannot be reached and the model is not in the local hub cache; check the network, or give a "
    "local folder or a gs:// folder"
)
NOT_ON_HUB = (
    "there is no such folder and no such model on the Hugging Face hub; check the spelling (for a private model, log in "
    "with `hf auth login`)"
)

TINY_LAYERS = 2
"""Transformer layers of the built-in encoder."""


def check_encoder(config: EncoderConfig, *, asks_hub: bool) -> None:
    """Raises UserError where the encoder's config.json cannot be read, is of another family, or lacks the layers asked for.

    asks_hub is False where other machines load the encoder, whose copies of the hub's models may be others.
    """
    num_layers = read_num_layers(config.name, asks_hub=asks_hub)
    if num_layers:
        cut_for(config, num_layers)


def read_num_layers(name: str, *, asks_hub: bool) -> int:
    """Transformer layers of an encoder by its name, as check_encoder; 0 where its config.json does not say."""
    if name == "tiny":
        return TINY_LAYERS
    file = _file_of(name, "config.json", asks_hub=asks_hub)
    if file is None:
        return 0
    settings = _parsed(name, file)
    kind = settings.get("model_type")
    if isinstance(kind, str) and kind not in FAMILIES:
        one = ", ".join(FAMILIES)
        if "auto_map" in settings:
            raise UserError(
                f"encoder.name {name!r}: {code_needed(settings)}; wanted a model whose model_type is one of {one}"
            )
        raise UserError(f"encoder.name {name!r} is a {kind} model; wanted one of {one}")
    refuse_adapter(name, settings.get("add_adapter"))
    num_layers = settings.get("num_hidden_layers")
    return num_layers if isinstance(num_layers, int) else 0


def refuse_adapter(name: str, has_adapter: object, *, field: str = "encoder.name") -> None:
    """Raises UserError, which begins with the field, for a model with layers behind its encoder, by add_adapter of its config.json."""
    if has_adapter:
        raise UserError(
            f"{field} {name!r}: its config.json has add_adapter: true, and layers behind the encoder are not "
            "computed here, so its vectors would not be transformers'; give a model without an adapter"
        )


def code_needed(settings: Mapping[str, Any]) -> str:
    """That a model, by its config.json, is Python code of others."""
    return (
        f"its model_type {settings['model_type']} needs Python code from its repository (auto_map in config.json), which "
        "is never run here"
    )


def check_vocabulary(name: str, *, field: str = KEPT_VOCABULARY, wanted: str = TO_KEEP_ONE) -> None:
    """Raises UserError, which begins with the field and ends with what is wanted, where a CTC model has no vocab.json."""
    if name == "tiny":
        raise UserError(f"{field} 'tiny' has no vocabulary: {wanted}")
    if storage.is_remote(name) or local_path(name).is_dir():
        if not storage.exists(storage.join(_folder(name), "vocab.json")):
            raise UserError(f"{field} {name!r} has no vocabulary, which would be in its vocab.json: {wanted}")
        return
    _from_hub(name, "vocab.json", field=field)


def _file_of(name: str, file: str, *, asks_hub: bool) -> str | None:
    """The text of a file of a model; None where only loading the model shows what it is, as for an ensemble."""
    if storage.is_remote(name) or local_path(name).is_dir():
        folder = _folder(name)
        try:
            return storage.read_text(storage.join(folder, file))
        except storage.NotFoundError as error:
            if storage.exists(storage.join(folder, "member-00")):
                return None
            raise UserError(f"encoder.name {name!r}: {cannot_open(f'there is no {file}')}") from error
    check_folder(name)
    place = _from_hub(name, file, field="encoder.name") if asks_hub else None
    return place.read_text(encoding="utf-8", errors="replace") if place else None


def _folder(name: str) -> str:
    return name if storage.is_remote(name) else str(local_path(name))


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise UserError(f"encoder.name {name!r}: {cannot_open('config.json is no JSON object')}")
    return settings


def cannot_open(why: str) -> str:
    """That a folder is no model, and what is wanted."""
    return (
        f"transformers cannot open it ({why}); wanted a folder as save_pretrained writes it (config.json, "
        "model.safetensors)"
    )


def _from_hub(name: str, file: str, *, field: str) -> Path | None:
    """A file of a model on the Hugging Face hub, from this machine's copy where it has one; None where the hub refuses it."""
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    try:
        copy = try_to_load_from_cache(name, file)
        return Path(copy if isinstance(copy, str) else hf_hub_download(name, file))
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise UserError(f"{field} {name!r}: {UNREACHABLE}") from error
    except errors.GatedRepoError:
        return None
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(f"{field} {name!r}: {NOT_ON_HUB}") from error
    except Exception:  # loading the model tells more
        return None
