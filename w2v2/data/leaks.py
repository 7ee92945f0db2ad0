"""Leaks between folds or splits: a speaker, or identical audio, on both sides."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.data.groups import repeated
from w2v2.errors import UserError
from w2v2.wording import counted, listed


def refuse_divided_speakers(clips: pa.Table, *, part: str) -> None:
    """Raises UserError naming the speakers whose clips have several values of the column part."""
    leaks = _conflicts(clips, key="speaker", column=part)
    if leaks:
        which = [f"{leak['speaker']} ({part}s {listed(sorted(leak[f'{part}_distinct']))})" for leak in leaks]
        raise UserError(
            f"{counted(len(leaks), 'speakers')} with clips in more than one {part}: {listed(which)}; "
            f"give every clip of a speaker the same {part}"
        )


def with_shared_audio(clips: pa.Table) -> pa.Table:
    """The clips that share their audio_digest (of the clip's samples) with another clip; none if the table lacks that column."""
    if "audio_digest" not in clips.column_names:
        return clips.slice(0, 0).append_column("audio_digest", pa.array([], pa.string()))
    shared = repeated(clips["audio_digest"].drop_null())
    return clips.filter(pc.is_in(clips["audio_digest"], value_set=shared))


def refuse_same_audio(clips: pa.Table, column: str, consequence: str) -> None:
    """Raises UserError naming the clips with the same audio_digest and different values of the column."""
    leaks = _conflicts(clips, key="audio_digest", column=column)
    if leaks:
        which = [
            f"{' = '.join(sorted(leak['clip_id_list']))} "
            f"({column} {listed(sorted(leak[f'{column}_distinct']))})"
            for leak in leaks
        ]
        raise UserError(
            f"the same audio is {consequence}: {listed(which, '; ')}; remove or fix these clips in the data"
        )


def _conflicts(clips: pa.Table, *, key: str, column: str) -> list[Mapping[str, Any]]:
    """One row per value of key with several values of column, in the order of their first clip id."""
    # The clips of all groups as lists took 700 bytes for each of a million clips.
    counts = clips.group_by(key).aggregate([(column, "count_distinct")])
    keys = counts.filter(pc.greater(counts[f"{column}_count_distinct"], 1))[key]
    several = clips.filter(pc.is_in(clips[key], value_set=keys.combine_chunks()))
    groups = several.group_by(key).aggregate([(column, "distinct"), ("clip_id", "list"), ("clip_id", "min")])
    return groups.sort_by("clip_id_min").to_pylist()
