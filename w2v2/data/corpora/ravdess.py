"""Folders in which each audio file is a clip: RAVDESS's names hold its label and speaker, other names nothing."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from w2v2.config.data import DataConfig
from w2v2.data.corpora.rows import (
    OTHER_CHANNEL,
    ClipRow,
    CorpusRows,
    Labels,
    audio_among,
    below,
    files_below,
)
from w2v2.data.given_files import recordings
from w2v2.errors import ClipError, UserError
from w2v2.storage import files as storage
from w2v2.wording import counted, quoted

logger = logging.getLogger(__name__)

RAVDESS_CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
NOT_RAVDESS = "name not RAVDESS"
"""The kind of a clip whose file has another name."""

NAME = "[0-9]{2}(-[0-9]{2}){6}"
"""A regular expression for the name of a file, without its suffix."""
# The seven fields of 03-01-06-01-02-01-12.wav and the largest value of each; all count from 01.
RAVDESS_FIELDS = {
    "modality": 3,
    "vocal channel": 2,
    "emotion": 8,
    "intensity": 2,
    "statement": 2,
    "repetition": 2,
    "actor": 24,
}


def read_folder(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """The audio files below data.uri in the order of their uri, without those of the other vocal channel.

    For task none, layout auto reads RAVDESS's names if all files have that form; layout files never does. Raises UserError
    where the task needs what the names do not hold, and where no clip is of data.vocal_channel.
    """
    _refuse_settings(data, task, extra_columns)
    root = storage.expand(data.uri)
    uris, passed_over = (recordings(data), Counter[str]()) if data.files else files_below(root)
    audio = audio_among(uris, data, passed_over)
    if data.layout != "files" and (
        data.layout == "ravdess" or task != "none" or all(map(_is_ravdess, audio))
    ):
        rows = _ravdess_clips(root, audio, data)
        if len(rows) < len(audio):
            passed_over[OTHER_CHANNEL] = len(audio) - len(rows)
    else:
        rows = [ClipRow(clip_id=below(uri, root), uri=uri) for uri in audio]
    return CorpusRows(rows=rows, passed_over=passed_over)


def _refuse_settings(data: DataConfig, task: Labels, extra_columns: Sequence[str]) -> None:
    if extra_columns:
        raise UserError(
            f"data.uri {data.uri} is no CSV and has no columns, but {quoted(extra_columns)} are asked for"
        )
    if data.layout == "files" and task != "none":
        raise UserError(
            "data.layout is files, which has no labels and no speakers, and this job needs both: give a CSV"
        )
    if task == "transcript":
        raise UserError(
            f"data.uri {data.uri} is read as RAVDESS, whose names hold no transcript, got task.kind=transcript: give a "
            "CSV with data.text_column, or set --data.layout librispeech or common_voice"
        )
    if task in ("multi_label", "regression"):
        raise UserError(
            f"data.uri {data.uri} is read as RAVDESS, whose names hold one class, got task.kind={task}: give a "
            "CSV with data.target_columns, or set --data.layout clinic or deam"
        )


def _is_ravdess(uri: str) -> bool:
    return re.fullmatch(NAME, PurePosixPath(uri).stem) is not None


def _ravdess_clips(root: str, audio: Sequence[str], data: DataConfig) -> list[ClipRow]:
    """The audio files, without those of the other vocal channel."""
    rows = [_ravdess_clip(uri, below(uri, root), data) for uri in audio]
    clips = [row for row in rows if row is not None]
    if not clips:
        raise UserError(
            f"data.uri {data.uri} has {len(audio)} RAVDESS clips, but none with data.vocal_channel="
            f"{data.vocal_channel}: set --data.vocal_channel both"
        )
    num_left_out = len(rows) - len(clips)
    if num_left_out:
        logger.info(
            "%s: data.vocal_channel=%s leaves out %s",
            root,
            data.vocal_channel,
            counted(num_left_out, "clips"),
        )
    return clips


def _ravdess_clip(uri: str, clip_id: str, data: DataConfig) -> ClipRow | None:
    """The clip that the file name describes; None for a clip of the other vocal channel."""
    try:
        fields = _ravdess_fields(PurePosixPath(clip_id).stem)
    except ClipError as error:
        return ClipRow(clip_id=clip_id, uri=uri, reject=error.reject)
    channel = ("speech", "song")[fields["vocal channel"] - 1]
    if data.vocal_channel not in (channel, "both"):
        return None
    label = RAVDESS_CLASSES[fields["emotion"] - 1]
    return ClipRow(clip_id=clip_id, uri=uri, speaker=f"{fields['actor']:02}", label=label)


def _ravdess_fields(stem: str) -> dict[str, int]:
    """The seven numbers of a RAVDESS file name; ClipError says which one is wrong."""
    parts = stem.split("-")
    if len(parts) != len(RAVDESS_FIELDS) or not all(re.fullmatch("[0-9]{2}", part) for part in parts):
        raise ClipError(NOT_RAVDESS, "wanted seven two-digit fields like 03-01-06-01-02-01-12")
    for i, (part, (name, largest)) in enumerate(zip(parts, RAVDESS_FIELDS.items(), strict=True), start=1):
        if not 1 <= int(part) <= largest:
            raise ClipError(NOT_RAVDESS, f"field {i} ({name}) is {part}, wanted 01 to {largest:02}")
    fields = dict(zip(RAVDESS_FIELDS, map(int, parts), strict=True))
    if fields["emotion"] == 1 and fields["intensity"] == 2:
        raise ClipError(NOT_RAVDESS, "field 4 (intensity) is 02, but neutral (01) has no strong intensity")
    if fields["modality"] != 3:
        raise ClipError("video", f"field 1 (modality) is {parts[0]}, wanted 03 (audio only)")
    return fields
