"""Common Voice's layout: train.tsv, dev.tsv and test.tsv, or validated.tsv, and a folder clips/.

Ardila et al., Common Voice: a massively-multilingual speech corpus, LREC 2020.
"""

from collections.abc import Iterator, Sequence

from w2v2.config.data import DataConfig
from w2v2.data.corpora.rows import ClipRow, CorpusRows, Labels
from w2v2.errors import Reject, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted

SPLIT_OF_FILE = {"train": "train", "dev": "val", "test": "test"}
"""By the name of a table of clips, without .tsv."""
COLUMNS = ("client_id", "path", "sentence")


def read_common_voice(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """A clip for each row of train.tsv, dev.tsv and test.tsv, else of validated.tsv, in their order.

    client_id is the speaker, sentence the transcript; any column can be an extra one. A row with too few fields is a
    reject; a clip whose file is missing becomes one when it is read. Raises UserError for missing files or columns.
    """
    if task not in ("transcript", "none"):
        raise UserError(
            f"data.layout=common_voice has transcripts, got task.kind={task}: set --task.kind transcript"
        )
    root = storage.expand(data.uri)
    parts = {
        name: split
        for name, split in SPLIT_OF_FILE.items()
        if storage.exists(storage.join(root, f"{name}.tsv"))
    }
    if not parts and storage.exists(storage.join(root, "validated.tsv")):
        parts = {"validated": ""}
    if not parts:
        raise UserError(
            f"data.uri {data.uri} has neither train.tsv, dev.tsv, test.tsv nor validated.tsv: give the folder of one "
            "language of Common Voice, or a .csv file with data.text_column"
        )
    return CorpusRows(
        rows=[row for name, split in parts.items() for row in _rows(root, name, split, extra_columns)]
    )


def _rows(root: str, name: str, split: str, extra_columns: Sequence[str]) -> Iterator[ClipRow]:
    file = storage.join(root, f"{name}.tsv")
    try:
        lines = storage.read_bytes(file).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    # Quotes are part of the sentences and do not enclose fields.
    header = lines[0].rstrip("\r").split("\t")
    if lost := [column for column in (*COLUMNS, *extra_columns) if column not in header]:
        raise UserError(
            f"{file} has no column {lost[0]!r}, its columns are {quoted(header)}: wanted a file of Common Voice"
        )
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            cells = line.rstrip("\r").split("\t")
            row = dict(zip(header, cells, strict=False))
            yield _clip(root, f"row {number} of {name}.tsv", row, split, extra_columns)


def _clip(root: str, place: str, cells: dict[str, str], split: str, extra_columns: Sequence[str]) -> ClipRow:
    if lost := [column for column in ("client_id", "path") if not cells.get(column)]:
        path = cells.get("path") or place
        return ClipRow(clip_id=path, uri="", reject=Reject(kind=f"{lost[0]} is empty", place=place))
    # Old versions name the files without their suffix.
    path = cells["path"] if "." in cells["path"] else f"{cells['path']}.mp3"
    return ClipRow(
        clip_id=path,
        uri=storage.join(root, "clips", path),
        speaker=cells["client_id"],
        split=split,
        text=cells.get("sentence", "").strip(),
        extra_cells=tuple(cells.get(name, "") for name in extra_columns),
    )
