"""jsonargparse's error messages as one sentence: field, got, wanted.

The messages are recognised by their text, which a new version of jsonargparse may change; tests/test_internals.py then
says which one has changed. A message of unknown form is shown as it is.
"""

import re
from collections.abc import Iterable

from w2v2.config.spelling import unknown_field

_EXPECTED = re.compile(
    r"Expected an? (?:<class '(?P<class>\w+)'>|typing\.Literal\[(?P<choices>[^\]]*)\]|(?P<path>dot import path string))"
)
_GOT = re.compile(r"(?:Got value|Given value|dot import path string): (.*)$")
_KEY = re.compile(r'Parser key "([^"]+)"')
_UNKNOWN = (
    re.compile(r"unrecognized arguments: --([^\s=]+)"),
    re.compile(r"Group '(\S+)' does not accept option '(\S+)'"),
    re.compile(r"Option '(\S+)' is not accepted"),
)
_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list as [a, b]",
    "dict": "names with values as {a: b}",
}


def plain_words(message: str, fields: Iterable[str]) -> str:
    """One sentence: which field, got, wanted; or the parser's own words where they are plain. fields are the paths of all fields."""
    message = " ".join(message.split())
    keys, got = _KEY.findall(message), _GOT.search(message)
    if unknown := next(filter(None, (pattern.search(message) for pattern in _UNKNOWN)), None):
        where = f"{' '.join(keys)}: " if keys else ""
        return where + unknown_field(".".join(unknown.groups()), fields)
    wanted = [_wanted(match) for match in _EXPECTED.finditer(message)]
    if not (keys and got and wanted):
        return re.sub(r'^Parser key "([^"]+)"', r"\1", message)
    return f"{' '.join(keys)}: got {got[1]}, wanted {' or '.join(dict.fromkeys(wanted))}"


def _wanted(expected: re.Match[str]) -> str:
    if expected["path"]:
        return _WANTED["dict"]
    if expected["class"]:
        return _WANTED.get(expected["class"], expected["class"])
    choices = [choice.strip("' ") for choice in expected["choices"].split(",")]
    return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
