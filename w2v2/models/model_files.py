"""The small files of a model by its name, from a local folder, a bucket or the Hugging Face hub: no weights, no torch."""

import difflib
import json
import time
from pathlib import Path

from w2v2.errors import UserError
from w2v2.models.pretrained_name import local_path
from w2v2.storage import files as storage

UNREACHABLE = (
    "there is no such folder, the Hugging Face hub cannot be reached and the model is not in the local hub cache; check "
    "the path or the network, or give a gs:// folder"
)
NOT_ON_HUB = (
    "there is no such folder and no such model on the Hugging Face hub; check the spelling (for a private model, log in "
    "with `hf auth login`)"
)


PAUSE_S = 0.5
"""Before the hub is asked again, as an answer may be lost."""


class HubError(UserError):
    """The Hugging Face hub cannot be reached, or has no such model."""


def is_on_hub(name: str) -> bool:
    """Whether a name is neither a bucket's folder nor an existing local one."""
    return not storage.is_remote(name) and not local_path(name).is_dir()


def file_of_folder(name: str, file: str) -> str:
    """The path or address of a file of a model that is not on the hub."""
    return storage.join(name if storage.is_remote(name) else str(local_path(name)), file)


def read_model_file(name: str, file: str, *, field: str = "encoder.name") -> str | None:
    """The text of a model's file; None where it has no such file, and where the hub gives none (a gated model).

    A copy in this machine's hub cache is read without asking the hub. Raises HubError, which begins with the field,
    where the hub cannot be reached or has no such model, and StorageError where a folder's file cannot be read.
    """
    if is_on_hub(name):
        copy = _from_hub(name, file, field=field)
        return copy.read_text(encoding="utf-8", errors="replace") if copy else None
    try:
        return storage.read_text(file_of_folder(name, file))
    except storage.NotFoundError:
        return None


def as_settings(text: str | None) -> dict[str, object] | None:
    """The settings in the text of a JSON file; None where it is no JSON object."""
    try:
        settings = json.loads(text or "")
    except ValueError:
        return None
    return settings if isinstance(settings, dict) else None


def cannot_open(why: str) -> str:
    """The sentence that a folder is no model: why not, and what is wanted."""
    return (
        f"transformers cannot open it ({why}); wanted a folder as save_pretrained writes it (config.json, "
        "model.safetensors)"
    )


def _from_hub(name: str, file: str, *, field: str) -> Path | None:
    """The local copy of a file on the hub, downloaded where there is none yet."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        copy = try_to_load_from_cache(name, file)
        if isinstance(copy, str):
            return Path(copy)
        _ask_hub(name, file)
        return Path(hf_hub_download(name, file))
    except Exception as error:  # of all others, loading the model tells more
        if why := hub_refusal(error):
            guess = "did you mean tiny? " if difflib.get_close_matches(name, ["tiny"]) else ""
            raise HubError(f"{field} {name!r}: {guess}{why}") from error
        return None


def _ask_hub(name: str, file: str) -> None:
    """Ask the hub for a file's size, twice at most: hf_hub_download tries for 23 s where there is no network, and a path may be mistyped."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    for is_last in (False, True):
        try:
            get_hf_file_metadata(hf_hub_url(name, file))
            return
        except (errors.HfHubHTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled):
            raise
        except Exception as error:  # of the library below, which is not the same in all versions
            if is_last:
                raise ConnectionError(f"{name}: the hub did not answer") from error
            time.sleep(PAUSE_S)


def hub_refusal(error: BaseException) -> str:
    """Why the hub could not be asked or has no such model, by the class of an error and of its causes; '' for other errors.

    transformers raises an OSError of its own for each of them, whose text has the model's name and the hub's address.
    """
    from huggingface_hub import errors

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, errors.GatedRepoError):
            return ""  # a RepositoryNotFoundError, too, but there is such a model
        if isinstance(cause, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | ConnectionError):
            return UNREACHABLE
        if isinstance(cause, errors.RepositoryNotFoundError | errors.HFValidationError):
            return NOT_ON_HUB
        cause = cause.__cause__ or cause.__context__
    return ""
