"""The description of a saved model in its folder's w2v2.json; read without weights and without torch."""

import json
from dataclasses import dataclass
from typing import Any

from w2v2.config.data import AudioConfig, TaskKind
from w2v2.config.decode import DecodeConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import Vocabulary
from w2v2.errors import UserError
from w2v2.job_commands import command_of
from w2v2.json_types import JsonObject
from w2v2.models.folder_files import refuse_damaged
from w2v2.storage import files as storage
from w2v2.storage.seals import load_json, parse_json

FORMAT = 2
"""The format of the folder of one model; raised when its files change their meaning."""
ENSEMBLE_FORMAT = 3
"""The format of the folder of an ensemble, whose members have folders of FORMAT; versions without ensembles refuse it."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The outputs of a model, and the audio and settings that it expects."""

    kind: TaskKind
    groups: tuple[tuple[str, ...], ...]
    """The names of the outputs of each head: classes, labels or values."""
    audio: AudioConfig
    encoder: EncoderConfig
    head: HeadConfig
    normalize: bool
    num_descriptors: int = 0
    text: TextConfig | None = None
    """How transcripts are normalised; None for other tasks."""
    vocabulary: Vocabulary | None = None
    """The characters of the outputs of a model of transcripts; None for other tasks."""
    decode: DecodeConfig | None = None
    """The beam search whose language model the folder keeps, with its weights; None where it keeps none."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all outputs in order."""
        return tuple(name for group in self.groups for name in group)


def is_ours(uri: str) -> bool:
    """Whether a folder has a model that was saved here."""
    return storage.exists(storage.join(storage.expand(uri), "w2v2.json"))


def read_info(uri: str) -> tuple[ModelInfo, str]:
    """The ModelInfo of the model in a folder, and its digest. Raises UserError for a folder without a model."""
    place = storage.join(storage.expand(uri), "w2v2.json")
    if not is_ours(uri):
        raise UserError(
            f"model {uri!r} is no model of ours: there is no w2v2.json in a folder of that name; give the model folder of a finetune run "
            "that came to its end"
        )
    try:
        body = storage.read_bytes(place)
        format_number = load_json(place, body)["format"]  # another one may be sealed otherwise
        if format_number not in (FORMAT, ENSEMBLE_FORMAT):
            raise UserError(
                f"model {uri!r} has format {format_number}, this version reads {FORMAT} and {ENSEMBLE_FORMAT}: train it again with "
                f"{command_of('finetune')}, or use the version of w2v2 that its card names"
            )
        about = parse_json(place, body)
        refuse_damaged(uri, about.get("files", {}))
        fields = about["info"]
        sections = {"audio": AudioConfig, "encoder": EncoderConfig, "head": HeadConfig}
        sections_read: dict[str, Any] = {
            name: kind(**_tuples(fields[name])) for name, kind in sections.items()
        }
        sections_read |= {"groups": tuple(tuple(group) for group in fields["groups"])}
        for name, kind in {"text": TextConfig, "vocabulary": Vocabulary, "decode": DecodeConfig}.items():
            sections_read |= {name: kind(**_tuples(fields[name]))} if fields.get(name) else {}
        return ModelInfo(**{**fields, **sections_read}), about["digest"]
    except (KeyError, TypeError, storage.DamagedError) as error:
        raise UserError(f"{place} cannot be read ({error}): save the model again") from error


def read_members(uri: str) -> list[str]:
    """The folders of an ensemble's members, in order; none for a single model. The folder must have a w2v2.json."""
    place = storage.join(storage.expand(uri), "w2v2.json")
    names = parse_json(place, storage.read_bytes(place)).get("members", [])
    return [storage.join(storage.expand(uri), name) for name in names]


def read_convolutions(uri: str) -> tuple[list[int], list[int]]:
    """Kernels and strides of the convolutions of a saved model's encoder."""
    config = json.loads(storage.read_text(storage.join(storage.expand(uri), "config.json")))
    return config["conv_kernel"], config["conv_stride"]


def read_card(uri: str) -> JsonObject:
    """The entries of the model card when the model was saved."""
    place = storage.join(storage.expand(uri), "w2v2.json")
    return parse_json(place, storage.read_bytes(place))["card"]


def card_block(card: JsonObject) -> str:
    """The card as written in the folder's README.md."""
    return f"```json\n{json.dumps(dict(card), indent=2)}\n```"


def _tuples(fields: JsonObject) -> JsonObject:
    """The value with JSON's lists turned back into tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
