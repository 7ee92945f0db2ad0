"""Names of encoders that are paths: relative ones are relative to the folder where the job was started."""

import os
from pathlib import Path

from w2v2.errors import UserError

START_FOLDER = "W2V2_START_FOLDER"
"""The environment variable with the folder where the job was started; workers are started in another one."""


def check_folder(name: str, *, field: str = "encoder.name") -> None:
    """Raises UserError, which begins with the field, for a name with spaces around it, or of a folder that does not exist."""
    if name != name.strip():
        raise UserError(f"{field} {name!r} begins or ends with white space: write {name.strip()!r}")
    if name.startswith(("/", "./", "../", "~")) and not local_path(name).is_dir():
        raise UserError(
            f"{field} {name!r}: no such folder; wanted one with config.json and model.safetensors"
        )


def local_path(name: str) -> Path:
    """The folder that a name refers to if it is a path."""
    return Path(os.environ.get(START_FOLDER, "")) / Path(name).expanduser()
