"""An encoder by name: hub, local folder, gs:// folder, or the built-in 'tiny' with random weights."""

import functools
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)
from transformers.utils import logging as transformers_logging

from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError, unwritable_disk
from w2v2.models.architecture import (
    FAMILIES,
    FRONT_END,
    PROCESSOR,
    SPECTRUM_FAMILIES,
    TINY_LAYERS,
    code_needed,
    refuse_adapter,
    refuse_unusable,
)
from w2v2.models.encoder import Encoder
from w2v2.models.folder_files import refuse_damaged_encoder
from w2v2.models.model_files import (
    HubError,
    as_settings,
    cannot_open,
    hub_refusal,
    is_on_hub,
    read_model_file,
)
from w2v2.models.onednn_linear import use_fastest_linear
from w2v2.models.pretrained_name import check_folder, local_path
from w2v2.models.squeezed import SqueezedEncoder
from w2v2.models.whisper import WhisperAudioEncoder, without_decoder
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)


def tiny_config() -> Wav2Vec2Config:
    """A wav2vec2 of about 0.08 M parameters that trains from scratch on a laptop: 50 frames/s, 2 layers."""
    return Wav2Vec2Config(
        hidden_size=48,
        num_hidden_layers=TINY_LAYERS,
        num_attention_heads=4,
        intermediate_size=96,
        conv_dim=(32, 32, 48, 64),
        conv_kernel=(32, 5, 4, 4),
        conv_stride=(16, 5, 2, 2),
        conv_bias=True,  # without it the layer norm of each frame erases loudness
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        hidden_dropout=0.0,  # a few hundred clips: it underfits rather than overfits
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
    )


def load_encoder(config: EncoderConfig, *, seed: int) -> Encoder:
    """The encoder in float32 on the CPU; `seed` makes the random weights of 'tiny'. Raises UserError where it cannot be opened."""
    model, normalize = _opened(config, seed)
    extractor = _extractor(config.name) if model.config.model_type in SPECTRUM_FAMILIES else None
    use_fastest_linear(model)
    if model.config.model_type == "whisper":
        model = without_decoder(model)
    return encoder_of(model, config, normalize=normalize and extractor is None, extractor=extractor)


def encoder_of(
    model: PreTrainedModel, config: EncoderConfig, *, normalize: bool, extractor: Any = None
) -> Encoder:
    """The Encoder of the model's family. Raises UserError for other families."""
    match model.config.model_type:
        case "whisper":
            kind: type[Encoder] = WhisperAudioEncoder
        case "sew" | "sew-d":
            kind = SqueezedEncoder
        case _:
            kind = Encoder
    return kind(model, config, normalize=normalize, extractor=extractor)


def _extractor(name: str) -> Any:
    """The feature extractor of a model of spectra. Raises UserError where it cannot be read."""
    folder = open_folder(name)
    file = _front_end_file(folder) or FRONT_END
    try:
        return AutoFeatureExtractor.from_pretrained(folder)
    except Exception as error:
        if refusal := hub_refusal(error):
            raise HubError(f"encoder.name {name!r}: {refusal}") from error
        raise UserError(
            f"encoder.name {name!r}: it takes spectra, and its {file} cannot be read "
            f"({' '.join(str(error).split())[:200]}); wanted the one that it was trained with"
        ) from error


def _opened(config: EncoderConfig, seed: int) -> tuple[PreTrainedModel, bool]:
    """The model of a name, and whether it wants waveforms normalised."""
    if config.name == "tiny":
        torch.manual_seed(seed)
        return Wav2Vec2Model(tiny_config()), True
    model, report, normalize = read_checkpoint(config.name)
    # transformers fills with random weights what a checkpoint lacks; only SpecAugment's vector may be so.
    refuse_missing(config.name, missing_weights(report) - {"masked_spec_embed"})
    return model, normalize


def read_checkpoint(
    name: str, model_class: Any = AutoModel, model_config: Any = None
) -> tuple[Any, Mapping[str, Any], bool]:
    """A model read by its name, transformers' report of the reading, and whether it wants waveforms normalised.

    Weights that the checkpoint lacks are random (see missing_weights). Raises UserError where transformers
    cannot open it. model_config is used in place of the checkpoint's own.
    """
    folder = open_folder(name)
    refuse_damaged_encoder(name, Path(folder))
    _refuse_unusable(name, folder)
    settings = {} if model_config is None else {"config": model_config}
    try:
        model, report = model_class.from_pretrained(
            folder,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            **settings,
        )
    # A folder may hold anything: pickles that torch refuses, pointers of git-lfs, words where numbers belong.
    except Exception as error:
        raise unwritable_disk(error) or UserError(_why_not(name, folder, error)) from error
    refuse_adapter(name, getattr(model.config, "add_adapter", False))
    return model, report, _normalizes(name, folder)


def read_model_config(name: str) -> tuple[PreTrainedConfig, bool]:
    """The architecture of a model by its name, and whether it wants waveforms normalised. Raises UserError where it cannot be read."""
    folder = open_folder(name)
    _refuse_unusable(name, folder)
    try:
        architecture = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise unwritable_disk(error) or UserError(_why_not(name, folder, error)) from error
    refuse_adapter(name, getattr(architecture, "add_adapter", False))
    return architecture, _normalizes(name, folder)


def _refuse_unusable(name: str, folder: str) -> None:
    """Like refuse_unusable, and raises at once where the hub does not give a file: transformers would ask it for minutes."""
    if is_on_hub(folder):
        read_model_file(folder, "config.json")
    refuse_unusable(name, folder=folder, is_opened=True)


def missing_weights(report: Mapping[str, Any]) -> set[str]:
    """Names of weights that a checkpoint lacks or has in another shape, by transformers' report of reading it."""
    return set(report["missing_keys"]) | {key for key, *_ in report["mismatched_keys"]}


def refuse_missing(name: str, missing: Collection[str]) -> None:
    """Raises UserError where weights are missing."""
    if missing:
        raise UserError(
            f"encoder.name {name!r}: {len(missing)} weights that its config.json asks for are missing or of another "
            f"shape, such as {min(missing)}; wanted a folder as save_pretrained writes it"
        )


@functools.lru_cache(maxsize=2)
def loaded_encoder(config: EncoderConfig, seed: int) -> tuple[Encoder, str]:
    """The encoder, loaded once per process and shared by all its users there, and the digest of its weights.

    Callers may move it to a device and set evaluation mode, but must not train it: `classifier.trainable_copy` copies it.
    """
    encoder = load_encoder(config, seed=seed)
    return encoder, weights_digest(encoder.model)


def weights_digest(model: PreTrainedModel) -> str:
    """SHA-256 over the architecture and the names, shapes and values of all weights, 16 hex digits."""
    architecture = model.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "architectures", "dtype"):
        architecture.pop(name, None)
    total = hashlib.sha256(json.dumps(architecture, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()[:16]


def open_folder(name: str) -> str:
    """A local folder or hub name that transformers can open, with its messages turned off; a gs:// folder is downloaded once."""
    turn_off_messages()
    return _local_folder(name)


def turn_off_messages() -> None:
    """Turn off the messages and progress bars of transformers: a job has its own."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _local_folder(name: str) -> str:
    """A name that transformers can open: gs:// folders are downloaded, once per machine."""
    if storage.is_remote(name):
        files = storage.list_files(name)
        key = hashlib.sha256(repr(sorted((f.uri, f.fingerprint) for f in files)).encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"w2v2-weights-{os.getuid()}" / key
        if not (folder / ".complete").exists():
            storage.download_folder(name, folder)
            (folder / ".complete").touch()
        return str(folder)
    path = local_path(name)
    if path.is_dir():
        return str(path)
    check_folder(name)
    return name


def _normalizes(name: str, folder: str) -> bool:
    """Whether this model wants each waveform at zero mean and unit variance (as most do)."""
    file = _front_end_file(folder)
    if not file:
        logger.warning(
            "encoder.name %s has no preprocessor_config.json: waveforms are normalised, as for wav2vec2-base",
            name,
        )
        return True
    try:
        return bool(Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize)
    except Exception as error:
        if refusal := hub_refusal(error):
            raise HubError(f"encoder.name {name!r}: {refusal}") from error
        raise UserError(
            f"encoder.name {name!r}: its {file} cannot be read; fix it, or remove it to have waveforms normalised"
        ) from error


def _front_end_file(folder: str) -> str:
    """The file with a model's settings for audio; '' where it has none. Raises HubError where the hub does not tell."""
    if _text_of(folder, FRONT_END) is not None:
        return FRONT_END
    text = _text_of(folder, PROCESSOR)
    settings = as_settings(text)
    # Processors of earlier versions have nothing on audio in this file.
    says_nothing = settings is not None and not settings.keys() & {"feature_extractor", "audio_processor"}
    return "" if text is None or says_nothing else PROCESSOR


def _text_of(folder: str, file: str) -> str | None:
    """The text of a file, as read_model_file returns it; '' where it is not text."""
    try:
        return read_model_file(folder, file)
    except storage.DamagedError:
        return ""


def _other_kind(folder: str) -> str:
    """Why w2v2 cannot compute the family of a model that could not be opened; '' if its config.json names a known family."""
    try:
        settings, _ = PreTrainedConfig.get_config_dict(folder)
    except Exception:  # no such model, or a config.json that cannot be read: the first error tells more
        return ""
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if not isinstance(kind, str) or kind in FAMILIES:
        return ""
    if "auto_map" in settings:
        return code_needed(settings)
    return f"its model_type {kind} is unknown to transformers {transformers.__version__}"


def _why_not(name: str, folder: str, error: Exception) -> str:
    """The error message for a model that cannot be opened: the reason, and what is wanted."""
    text = (str(error) or type(error).__name__).splitlines()[0][:200]
    if (Path(folder) / "member-00").is_dir():
        why = (
            "it is an ensemble, which has no encoder of its own; give one of its members, such as "
            f"{name.rstrip('/')}/member-00"
        )
    elif kind := _other_kind(folder):
        why = f"{kind}; wanted a model whose model_type is one of {', '.join(FAMILIES)}"
    elif Path(folder).is_dir():
        why = cannot_open(text)
    elif refusal := hub_refusal(error):
        why = refusal
    else:
        why = (
            f"the Hugging Face hub does not give it ({text}); check the name (for a gated or private model, log in with "
            "`hf auth login`)"
        )
    return f"encoder.name {name!r}: {why}"
