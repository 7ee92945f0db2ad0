"""A file of labels: one head per line, the labels of a line separated by commas."""

from collections import Counter

from w2v2.data.corpora.rows import Groups
from w2v2.errors import UserError
from w2v2.storage import files as storage


def read_labels_file(uri: str) -> Groups:
    """The names of the labels, one inner tuple per head. Raises UserError for a file that is missing, empty or has a name twice."""
    try:
        text = storage.read_text(uri).removeprefix("\ufeff")
    except storage.StorageError as error:
        raise UserError(f"data.labels_file, with one head per line, cannot be read: {error}") from error
    lines = [tuple(name.strip() for name in line.split(",")) for line in text.splitlines() if line.strip()]
    names = [name for line in lines for name in line]
    if not names:
        raise UserError(
            f"data.labels_file {uri} is empty: wanted one head per line, its labels separated by commas"
        )
    if "" in names:
        raise UserError(f"data.labels_file {uri} has a comma with no label next to it: remove the comma")
    if double := [name for name, n in Counter(names).items() if n > 1]:
        raise UserError(f"data.labels_file {uri} names {double[0]!r} twice: name each label once")
    return tuple(lines)


def labels_text(groups: Groups) -> str:
    """The text of a labels file with these heads."""
    return "".join(f"{', '.join(names)}\n" for names in groups)
