"""Types of what JSON files hold: checked where values are made to be written, arbitrary where a file was read."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
else:
    Json = object  # beartype, which checks the tests, follows no recursive type
"""A value that JSON has, and nothing else: an array of NumPy or a table is none."""

JsonObject = Mapping[str, Any]
"""An object as a JSON file has it, whose values nothing but the file says; a reader checks what it relies on."""
