"""MSP-Podcast: Labels/labels_consensus.csv and Audios/; its published splits are Train, Development and Test1 to Test3.

Lotfian and Busso, Building naturalistic emotionally balanced speech corpus, IEEE TAC 10(4), 2019.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from w2v2.config.data import DataConfig
from w2v2.data.corpora.label_table import LabelTable, named, open_table
from w2v2.data.corpora.rows import (
    OTHER_SPLIT,
    UNANNOTATED,
    ClipRow,
    CorpusRows,
    Labels,
    audio_among,
    files_below,
    grouped,
    targets_of,
)
from w2v2.errors import ClipError, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted

logger = logging.getLogger(__name__)

TARGETS = {"valence": "EmoVal", "activation": "EmoAct", "dominance": "EmoDom"}
EMOTIONS = {
    "A": "angry", "C": "contempt", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "O": "other",
    "S": "sad", "U": "surprise", "X": "no agreement",
}  # fmt: skip
SPLIT_OF_SET = {"train": "train", "development": "val", "validation": "val", "test1": "test"}
"""By the value of Split_Set, in lower case."""


def read_msp_podcast(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """The turns of Train, Development (val) and Test1 (test); those of other test sets are passed over.

    A turn whose speaker is 'Unknown' counts as a separate speaker. Raises UserError where files or columns are missing.
    """
    if extra_columns or task == "multi_label":
        asked = f"columns {quoted(extra_columns)}" if extra_columns else f"task.kind={task}"
        raise UserError(f"data.layout=msp_podcast has one class and three values a turn, got {asked}")
    root = storage.expand(data.uri)
    uris, passed_over = files_below(root)
    tables = [uri for uri in uris if PurePosixPath(uri).name == "labels_consensus.csv"]
    if not tables:
        raise UserError(f"data.uri {data.uri} has no labels_consensus.csv: give the folder of MSP-Podcast")
    file = open_table(tables[0], shown_as=tables[0])
    names = ("FileName", "EmoClass", "SpkrID", "Split_Set", *TARGETS.values())
    for name in names:
        file.need(name, "wanted MSP-Podcast's own columns")
    wavs = {PurePosixPath(uri).name: uri for uri in audio_among(uris, data, passed_over)}
    rows, unused = _rows(file, file.places(names), wavs, task)
    if unknown := len(set(wavs) - {row.clip_id for row in rows} - unused):
        passed_over[UNANNOTATED] = unknown
    if unused:
        passed_over[OTHER_SPLIT] = len(unused)
    return CorpusRows(
        rows=rows,
        groups=grouped(list(TARGETS), task) if task == "regression" else (),
        passed_over=passed_over,
    )


def _rows(
    file: LabelTable, columns: dict[str, int], wavs: dict[str, str], task: Labels
) -> tuple[list[ClipRow], set[str]]:
    """The turns of the used splits, and the names of the turns of other splits."""
    rows: list[ClipRow] = []
    unused: set[str] = set()
    num_alone = 0
    for number, fields in file.rows:
        cells = file.with_numbers(named(fields, columns), TARGETS.values())
        name = cells.get("FileName") or f"row {number}"
        try:
            file.check_width(fields)
            if cells["Split_Set"].lower() not in SPLIT_OF_SET:
                unused.add(name)
                continue
            row = _clip(name, cells, wavs, task)
        except ClipError as error:
            row = ClipRow(
                clip_id=name, uri=wavs.get(name, ""), reject=replace(error.reject, place=f"row {number}")
            )
        num_alone += row.speaker == name
        rows.append(row)
    if num_alone:
        logger.warning("%d turns have an unknown speaker: each counts as a speaker of its own", num_alone)
    return rows, unused


def _clip(name: str, cells: dict[str, str], wavs: dict[str, str], task: Labels) -> ClipRow:
    if name not in wavs:
        raise ClipError("missing", f"no {name} below data.uri")
    if cells["EmoClass"] not in EMOTIONS:
        raise ClipError("unknown emotion", cells["EmoClass"])
    values = {target: cells[column] for target, column in TARGETS.items()}
    return ClipRow(
        clip_id=name,
        uri=wavs[name],
        speaker=name if cells["SpkrID"].lower() in ("", "unknown") else cells["SpkrID"],
        split=SPLIT_OF_SET[cells["Split_Set"].lower()],
        label=EMOTIONS[cells["EmoClass"]] if task in ("classes", "none") else "",
        targets=targets_of(values, list(TARGETS), task) if task == "regression" else (),
    )
