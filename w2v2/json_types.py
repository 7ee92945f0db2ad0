"""Types of what JSON files hold: values that are written are checked, an object that was read is what its file has."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
else:
    Json = object  # beartype, which checks annotations in tests, follows no recursive type
"""A value that JSON has: no array of NumPy, no table, no path."""

JsonObject = Mapping[str, Any]
"""An object read from a JSON file, or of the form that such a file has: its reader knows its keys, a type checker does not."""
