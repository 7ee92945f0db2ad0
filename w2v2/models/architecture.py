"""A model as its small files describe it, without weights and torch: family, layers, sampling rate, vocabulary.

Mistakes that they show are reported before workers start.
"""

from collections.abc import Mapping

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.models.cut import cut_for
from w2v2.models.model_files import (
    HubError,
    as_settings,
    cannot_open,
    file_of_folder,
    is_on_hub,
    read_model_file,
)
from w2v2.models.pretrained_name import check_folder
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
WANTED_VOCABULARY = "wanted the folder or hub name of a CTC model with vocab.json, or --text.vocab train"

TINY_LAYERS = 2
"""Transformer layers of the built-in encoder."""

FRONT_END, PROCESSOR = "preprocessor_config.json", "processor_config.json"
"""The files with a model's settings for audio; transformers reads the second one where it has a feature_extractor."""
RATES = (
    (FRONT_END, ("sampling_rate",)),
    (PROCESSOR, ("feature_extractor", "sampling_rate")),
    ("config.json", ("sampling_rate",)),
    ("config.json", ("sample_rate",)),
)
"""The files and keys of a model's sampling rate."""


def check_encoder(config: EncoderConfig, *, asks_hub: bool) -> None:
    """Raises UserError where the encoder's config.json cannot be read, is of another family, or lacks the layers asked for.

    asks_hub is False where other machines load the encoder, whose copies of the hub's models may be others.
    """
    num_layers = read_num_layers(config.name, asks_hub=asks_hub)
    if num_layers:
        cut_for(config, num_layers)


def read_num_layers(name: str, *, asks_hub: bool) -> int:
    """Transformer layers of an encoder by its name; 0 where its config.json does not say.

    asks_hub is that of check_encoder. Raises UserError where config.json cannot be read, is of another family, or has
    an adapter.
    """
    if name == "tiny":
        return TINY_LAYERS
    check_folder(name)
    text = _read_config(name, asks_hub=asks_hub)
    if text is None:
        return 0
    settings = as_settings(text)
    if settings is None:
        raise UserError(f"encoder.name {name!r}: {cannot_open('config.json is no JSON object')}")
    _refuse_other_families(name, settings)
    refuse_adapter(name, settings.get("add_adapter"))
    num_layers = settings.get("num_hidden_layers")
    return num_layers if isinstance(num_layers, int) else 0


def refuse_unusable(
    name: str, *, field: str = "encoder.name", folder: str = "", is_opened: bool = False
) -> None:
    """Raises UserError, which begins with the field, for an encoder whose folder is missing or whose files rule it out.

    Encoders with an adapter behind them, or with another rate than 16 kHz, are ruled out. Of a hub name the small files
    are downloaded. What the hub does not give is left to the machines that open the model, whose hub caches may have
    it; with is_opened, this is one of them, and raises HubError. folder is where the files are read, if not in the
    place that the name says.
    """
    check_folder(name, field=field)
    if name == "tiny":
        return
    files: dict[str, Mapping[str, object]] = {}
    for file in dict.fromkeys(file for file, _ in RATES):
        # Models with a preprocessor_config.json seldom have both, and a hub cache may know nothing of the other one.
        is_needed = is_opened and (file != PROCESSOR or not files[FRONT_END])
        files[file] = _read_settings(folder or name, file, is_needed=is_needed)
    refuse_adapter(name, files["config.json"].get("add_adapter"), field=field)
    for file, keys in RATES:
        rate = _value_at(files[file], keys)
        if rate not in (None, SAMPLE_RATE, str(SAMPLE_RATE)):
            raise UserError(
                f"{field} {name!r} wants audio of {rate} Hz ({'.'.join(keys)} in {file}), and audio is {SAMPLE_RATE} Hz "
                f"here: give a model for {SAMPLE_RATE} Hz"
            )


def refuse_adapter(name: str, has_adapter: object, *, field: str = "encoder.name") -> None:
    """Raises UserError, which begins with the field, for a model with layers behind its encoder, by add_adapter of its config.json."""
    if has_adapter:
        raise UserError(
            f"{field} {name!r}: its config.json has add_adapter: true, and layers behind the encoder are not "
            "computed here, so its vectors would not be transformers'; give a model without an adapter"
        )


def code_needed(settings: Mapping[str, object]) -> str:
    """The sentence that a model needs Python code from its repository, by its config.json."""
    return (
        f"its model_type {settings['model_type']} needs Python code from its repository (auto_map in config.json), which "
        "is never run here"
    )


def check_vocabulary(name: str, *, field: str = KEPT_VOCABULARY, wanted: str = WANTED_VOCABULARY) -> None:
    """Raises UserError, which begins with the field and ends with what is wanted, where a CTC model has no vocab.json.

    A hub name without that file is left to the loader. Raises HubError where the hub does not give it.
    """
    if name == "tiny":
        raise UserError(f"{field} 'tiny' has no vocabulary: {wanted}")
    text = read_model_file(name, "vocab.json", field=field)
    if text is None and not is_on_hub(name):
        raise UserError(f"{field} {name!r} has no vocabulary, which would be in its vocab.json: {wanted}")


def _read_config(name: str, *, asks_hub: bool) -> str | None:
    """The text of config.json; None where the model must be loaded to know what it is, as for an ensemble."""
    if is_on_hub(name) and not asks_hub:
        return None
    text = read_model_file(name, "config.json")
    if text is None and not is_on_hub(name) and not storage.exists(file_of_folder(name, "member-00")):
        raise UserError(f"encoder.name {name!r}: {cannot_open('there is no config.json')}")
    return text


def _refuse_other_families(name: str, settings: Mapping[str, object]) -> None:
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind in FAMILIES:
        return
    families = ", ".join(FAMILIES)
    if "auto_map" in settings:
        raise UserError(
            f"encoder.name {name!r}: {code_needed(settings)}; wanted a model whose model_type is one of {families}"
        )
    raise UserError(f"encoder.name {name!r} is a {kind} model; wanted one of {families}")


def _read_settings(name: str, file: str, *, is_needed: bool) -> Mapping[str, object]:
    """The content of a model's file; empty where it is missing or cannot be read, or, if it is not needed, where the hub does not give it."""
    try:
        return as_settings(read_model_file(name, file)) or {}
    except storage.DamagedError:  # the loader says what is wrong
        return {}
    except HubError:
        if is_needed:
            raise
        return {}


def _value_at(content: object, keys: tuple[str, ...]) -> object:
    """The value at nested keys; None where there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
