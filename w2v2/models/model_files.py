"""The small files of a model by its name, from a local folder, a bucket or the Hugging Face hub: no weights, no torch."""

import difflib
import json
import time
from http import HTTPStatus
from pathlib import Path

from w2v2.errors import UserError, error_chain, unwritable_disk
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
_ASK_FOR_ACCESS = "check the name (for a gated or private model, log in with `hf auth login`)"

PAUSES_S = (0.5, 2.0, 4.0)
"""Seconds before the hub is asked again: answers may be lost, and failures of servers and rate limits end."""


class HubError(UserError):
    """The Hugging Face hub does not give a file: it cannot be reached, fails, has no such model, or lets only some read it."""


def is_on_hub(name: str) -> bool:
    """Whether a name is neither a bucket's folder nor an existing local one."""
    return not storage.is_remote(name) and not local_path(name).is_dir()


def file_of_folder(name: str, file: str) -> str:
    """The path or address of a file of a model that is not on the hub."""
    return storage.join(name if storage.is_remote(name) else str(local_path(name)), file)


def read_model_file(name: str, file: str, *, field: str = "encoder.name") -> str | None:
    """The text of a model's file; None only where the model has no such file.

    What this machine's hub cache has or knows to be missing is not asked of the hub. Raises HubError, which begins with
    the field, where the hub does not give the file or its cache does not keep it, ResumableError where a disk is full,
    and StorageError where a folder's file cannot be read.
    """
    if is_on_hub(name):
        return _from_hub(name, file, field=field)
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
    """The sentence on a folder that is no model: why not, and what is wanted."""
    return (
        f"transformers cannot open it ({why}); wanted a folder as save_pretrained writes it (config.json, "
        "model.safetensors)"
    )


def _from_hub(name: str, file: str, *, field: str) -> str | None:
    """The text of a file on the hub, downloaded where this machine has no copy yet."""
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    config: object = None
    try:
        copy = try_to_load_from_cache(name, file)
        if copy is None:
            config = try_to_load_from_cache(name, "config.json")
            _ask_hub(name, file)
            copy = hf_hub_download(name, file)
        # The cache also knows of files that the model lacks.
        return Path(copy).read_text(encoding="utf-8", errors="replace") if isinstance(copy, str) else None
    except errors.LocalEntryNotFoundError as error:  # an EntryNotFoundError, too, but the hub was not reached
        raise _not_given(name, file, error, field=field, config=config) from error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # libraries below huggingface_hub differ between its versions
        raise _not_given(name, file, error, field=field, config=config) from error


def _not_given(name: str, file: str, error: Exception, *, field: str, config: object) -> UserError:
    """The sentence on a model's file that the hub did not give; config is the path of its config.json in the hub cache, if it is there."""
    reason = _first_line(error)
    if why := hub_refusal(error):
        if why == UNREACHABLE and isinstance(config, str):
            why = (
                f"the Hugging Face hub cannot be reached, and the local hub cache has the model without its {file}; check the "
                f"network, or, if the model has no such file, give its folder {Path(config).parent}"
            )
        guess = "did you mean tiny? " if difflib.get_close_matches(name, ["tiny"]) else ""
        return HubError(f"{field} {name!r}: {guess}{why}")
    if full := unwritable_disk(error):
        return full
    if isinstance(error, OSError) and error.errno is not None:
        return HubError(
            f"{field} {name!r}: its {file} cannot be kept in or read from the local hub cache ({reason}); see that its "
            "folder may be written, or name another one by HF_HOME"
        )
    return HubError(
        f"{field} {name!r}: its {file} cannot be downloaded from the Hugging Face hub ({reason}); check the network and "
        "run the same command again, or give a folder"
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _ask_hub(name: str, file: str) -> None:
    """Ask the hub for a file's size: hf_hub_download tries for 23 s where there is no network, and a path may be mistyped.

    A hub that does not answer is asked once more; a hub that answers with a passing error is asked after each pause.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    for pause_s in (*PAUSES_S, None):
        try:
            get_hf_file_metadata(hf_hub_url(name, file))
            return
        except errors.HfHubHTTPError as error:
            if isinstance(error, errors.EntryNotFoundError):  # which hf_hub_download notes in the hub cache
                return
            if pause_s is None or not _is_passing(error.response.status_code):
                raise
        except (errors.HFValidationError, errors.OfflineModeIsEnabled):
            raise
        except Exception as error:  # the library below huggingface_hub differs between its versions
            if pause_s != PAUSES_S[0]:
                raise ConnectionError(f"{name}: the hub did not answer") from error
        time.sleep(pause_s)


def hub_refusal(error: BaseException) -> str:
    """Why the hub does not give a model or its file, by the class of an error and of its causes; '' for errors of other kinds.

    transformers raises an OSError of its own for each of them, whose text has the model's name and the hub's address.
    """
    from huggingface_hub import errors

    chain = error_chain(error)
    for cause in chain:
        # A RepositoryNotFoundError, too, but there is such a model.
        if isinstance(cause, errors.GatedRepoError):
            return f"the Hugging Face hub does not give it (it is a gated model); {_ASK_FOR_ACCESS}"
        if isinstance(cause, errors.RepositoryNotFoundError | errors.HFValidationError):
            return NOT_ON_HUB
        if isinstance(cause, errors.EntryNotFoundError) and not isinstance(
            cause, errors.LocalEntryNotFoundError
        ):
            return ""
    answers = [cause for cause in chain if isinstance(cause, errors.HfHubHTTPError)]
    if answers:
        return _of_status(answers[0].response.status_code, _first_line(answers[0]))
    unreachable = (
        errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | ConnectionError | TimeoutError
    )
    return UNREACHABLE if any(isinstance(cause, unreachable) for cause in chain) else ""


def _of_status(status: int, reason: str) -> str:
    """The sentence for an answer of the hub that is an error of HTTP."""
    if _is_passing(status):
        return (
            f"the Hugging Face hub answers with an error (HTTP status {status}), and the local hub cache does not have the "
            "file; run the same command again later, or give a folder"
        )
    return f"the Hugging Face hub does not give it ({reason}); {_ASK_FOR_ACCESS}"


def _is_passing(status: int) -> bool:
    """Whether a status of HTTP says 'later' and not 'never'."""
    return (
        status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )
