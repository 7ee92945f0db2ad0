"""LibriSpeech's layout: folders of audio with a <speaker>-<chapter>.trans.txt next to it, one clip per line.

Panayotov et al., Librispeech: an ASR corpus based on public domain audio books, ICASSP 2015; the same layout
as Multilingual LibriSpeech's and many corpora made after it.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from w2v2.config.data import DataConfig
from w2v2.data.corpora.rows import (
    UNANNOTATED,
    ClipRow,
    CorpusRows,
    Labels,
    audio_among,
    below,
    files_below,
)
from w2v2.errors import Reject, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted

logger = logging.getLogger(__name__)

SUFFIX = ".trans.txt"
# The beginning of a subset's folder, such as train-clean-100, and its split.
SUBSETS = {"train": "train", "dev": "val", "test": "test"}


def read_librispeech(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """A clip for each line of the *.trans.txt files, in the order of the files.

    A line is the clip's name, which begins with the speaker, and its text. Subsets whose folder begins with
    train, dev or test are the splits train, val and test. A line without its audio is a reject; audio without a line
    is passed over. Raises UserError where there are no such files.
    """
    if task not in ("transcript", "none"):
        raise UserError(
            f"data.layout=librispeech has transcripts, got task.kind={task}: set --task.kind transcript"
        )
    if unknown := [name for name in extra_columns if name != "text"]:
        raise UserError(
            f"data.layout=librispeech has no extra column but 'text', and {quoted(unknown)} are asked for"
        )
    root = storage.expand(data.uri)
    uris, passed_over = files_below(root)
    audio = {
        str(PurePosixPath(below(uri, root)).with_suffix("")): uri
        for uri in audio_among(uris, data, passed_over)
    }
    files = [uri for uri in uris if uri.lower().endswith(SUFFIX)]
    if not files:
        raise UserError(
            f"data.uri {data.uri} has no *{SUFFIX} file: give the folder of a corpus in LibriSpeech's layout, or "
            "a .csv file with data.text_column"
        )
    rows = [
        replace(row, extra_cells=(row.text,) * len(extra_columns)) for row in _rows(root, files, audio, data)
    ]
    num_untold = len(set(audio.values()) - {row.uri for row in rows})
    if num_untold:
        logger.info("%s: %d audio files have no line in a *%s and are left out", root, num_untold, SUFFIX)
        passed_over[UNANNOTATED] = num_untold
    return CorpusRows(rows=rows, passed_over=passed_over)


def _rows(root: str, files: Sequence[str], audio: dict[str, str], data: DataConfig) -> Iterator[ClipRow]:
    for uri, body in zip(files, storage.read_many(files, num_at_once=data.num_readers), strict=True):
        if isinstance(body, storage.StorageError):
            raise body
        try:
            lines = body.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{uri} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
        folder = below(uri.rpartition("/")[0], root)
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _clip(folder, number, line, PurePosixPath(uri).name, audio)


def _clip(folder: str, number: int, line: str, file: str, audio: dict[str, str]) -> ClipRow:
    name, _, text = line.strip().partition(" ")
    clip_id = f"{folder}/{name}" if folder else name
    uri = audio.get(clip_id, "")
    if not uri:
        reject = Reject(kind="missing", detail=f"no audio file {clip_id}.*", place=f"line {number} of {file}")
        return ClipRow(clip_id=clip_id, uri="", reject=reject)
    first = folder.partition("/")[0].lower()
    split = next((name for word, name in SUBSETS.items() if first.startswith(word)), "")
    return ClipRow(clip_id=clip_id, uri=uri, speaker=name.partition("-")[0], split=split, text=text.strip())
