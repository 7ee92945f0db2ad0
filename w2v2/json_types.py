"""Types of the content of JSON files. A type checker checks values that are written; it knows nothing of the content of a file that is read."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
else:
    Json = object  # beartype, which checks annotations in tests, follows no recursive type
"""A value that JSON can hold: no array of NumPy, no table, no path."""

JsonObject = Mapping[str, Any]
"""An object read from a JSON file, or of the same form: its reader knows its keys, a type checker does not."""
