"""Models of evaluate and predict: a folder of `w2v2 finetune`, or a CTC model of transformers."""

import re
from typing import TYPE_CHECKING

from w2v2.config.text import TextConfig
from w2v2.errors import UserError
from w2v2.models.architecture import check_vocabulary, refuse_unusable
from w2v2.models.model_info import ModelInfo, is_ours, read_convolutions, read_info, read_members
from w2v2.models.pretrained_name import local_path
from w2v2.storage import files as storage

if TYPE_CHECKING:  # imports torch
    from w2v2.models.saved_model import SavedModel

WANTED = "wanted the model folder of a finetune run, or a CTC model with vocab.json"


def place_of_model(name: str) -> str:
    """The absolute folder of a model; a hub name (owner/name) stays unchanged if no such folder exists."""
    is_name = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name)
    return name if is_name and not local_path(name).is_dir() else storage.expand(name)


def read_model(uri: str, text: TextConfig) -> tuple[ModelInfo, str]:
    """The ModelInfo of the model at a place_of_model, and its digest.

    text says how references are normalised for a model that was not trained here; models of `w2v2 finetune` record
    it. Raises UserError where there is no model, and where text is given for a model that records it.
    """
    if is_foreign(uri):
        saved = load_any(uri, text)
        return saved.info, saved.digest
    if text != TextConfig():
        raise UserError(
            f"text.* is for CTC models that were not trained here, and {uri} keeps how its text was normalised: leave it out"
        )
    info, digest = read_info(uri)
    for folder in read_members(uri) or [uri]:
        refuse_unusable(folder, field="model")
    return info, digest


def check_model(uri: str) -> None:
    """Raises UserError where there is no model at a place_of_model, as far as its files show without torch."""
    if is_foreign(uri):
        check_vocabulary(uri, field="model", wanted=WANTED)
    else:
        read_info(uri)


def load_any(uri: str, text: TextConfig) -> "SavedModel":
    """The model, in evaluation mode on the CPU."""
    check_model(uri)
    from w2v2.models.foreign_model import load_foreign
    from w2v2.models.saved_model import load_model

    return load_foreign(uri, text) if is_foreign(uri) else load_model(uri)


def convolutions_of(uri: str) -> tuple[list[int], list[int]]:
    """Kernels and strides of the encoder's convolutions."""
    if not is_foreign(uri):
        return read_convolutions(uri)
    from w2v2.models.foreign_model import read_foreign_convolutions

    return read_foreign_convolutions(uri)


def is_hub_name(uri: str) -> bool:
    """Whether a place_of_model is a hub name and not a folder."""
    return storage.expand(uri) != uri


def place_by_field(uri: str) -> dict[str, str]:
    """{"model": its folder}; {} for a hub name, which every machine can reach."""
    return {} if is_hub_name(uri) else {"model": uri}


def is_foreign(uri: str) -> bool:
    """Whether a place_of_model is a hub name, or a folder of transformers that was not saved here."""
    if is_hub_name(uri):
        return True
    return not is_ours(uri) and storage.exists(storage.join(uri, "config.json"))
