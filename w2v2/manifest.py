"""The clip table: which clips there are, who speaks in them and which class they have.

Read from the file names of a RAVDESS folder or from a CSV, local or gs://. A clip that cannot be used is
a row of `rejects` with its reason, never an exception and never dropped without a trace.
"""

import csv
import io
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from w2v2 import storage
from w2v2.config import DataConfig, UserError

logger = logging.getLogger(__name__)

CLIPS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("speaker", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
    ]
)
"""start_s and end_s are a segment of the file (inf is its end); split is empty where there is none."""

REJECTS = pa.schema([("clip_id", pa.string()), ("uri", pa.string()), ("reason", pa.string())])

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
RAVDESS_CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
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
NUM_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The clips that can be used (CLIPS) and those that cannot (REJECTS)."""

    clips: pa.Table
    rejects: pa.Table


class _RejectError(Exception):
    """Why one clip cannot be used; the message is the reason in rejects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clip:
    """A row of CLIPS; a bad one has a reason instead of what it lacks."""

    clip_id: str
    uri: str
    start_s: float = 0.0
    end_s: float = math.inf
    speaker: str = ""
    split: str = ""
    label: str = ""
    carried: tuple[str, ...] = ()
    reason: str = ""


def read(data: DataConfig, *, with_labels: bool = True, carried: Sequence[str] = ()) -> Manifest:
    """The clips of data.uri, with classes renamed, merged or dropped as data.classes says.

    Without with_labels, a clip may lack label and speaker (empty then), and 'auto' reads any folder of
    audio. carried are further text columns of the CSV, which the clips have too.

    A RAVDESS folder gives clips in the order of their uri with the path below the folder as clip_id; a
    CSV gives them in its order. Clips of a class that is dropped and of the other vocal channel are
    neither clips nor rejects; their number is logged. Raises UserError when nothing can be found at all,
    for a CSV without a needed column and for a clip_id that stands twice.
    """
    if _is_csv(data):
        rows = list(_csv_clips(data, with_labels=with_labels, carried=carried))
    else:
        rows = _folder_clips(data, with_labels=with_labels, carried=carried)
    good = [row for row in rows if not row.reason]
    bad = [row for row in rows if row.reason]
    _refuse_doubles(good, data)
    clips = _table(good, CLIPS)
    for i, name in enumerate(carried):
        clips = clips.append_column(
            pa.field(name, pa.string()), pa.array([row.carried[i] for row in good], pa.string())
        )
    clips = _with_classes(clips, data)
    logger.info("%s: %d clips, %d rejected", data.uri, len(clips), len(bad))
    return Manifest(clips=clips, rejects=_table(bad, REJECTS))


def classes_of(clips: pa.Table) -> list[str]:
    """The classes of the clips: in RAVDESS's order when all are emotions of RAVDESS, else sorted."""
    found = set(clips["label"].unique().to_pylist())
    if found <= set(RAVDESS_CLASSES):
        return [name for name in RAVDESS_CLASSES if name in found]
    return sorted(found)


def check(manifest: Manifest, *, max_reject_fraction: float) -> None:
    """Raises UserError when there is no clip, one class only, or too large a fraction of rejects."""
    check_rejects(manifest, max_reject_fraction=max_reject_fraction)
    classes = classes_of(manifest.clips)
    if len(classes) == 1:
        raise UserError(
            f"all {len(manifest.clips)} clips have the class {classes[0]!r}, wanted two classes or more: "
            "look at data.label_column and data.classes"
        )


def check_rejects(manifest: Manifest, *, max_reject_fraction: float) -> None:
    """Raises UserError when there is no clip or too large a fraction of rejects."""
    num_rejects = len(manifest.rejects)
    num_all = len(manifest.clips) + num_rejects
    if not num_all:
        raise UserError("nothing was found: no clip and no reject; look at data.uri and data.classes")
    if not len(manifest.clips):
        raise UserError(f"all {num_rejects} clips were rejected: {_commonest(manifest.rejects)}")
    if num_rejects / num_all > max_reject_fraction:
        raise UserError(
            f"{num_rejects} of {num_all} clips were rejected, more than the fraction "
            f"data.max_reject_fraction={max_reject_fraction:g}: {_commonest(manifest.rejects)}; "
            "mend these clips or raise --data.max_reject_fraction"
        )


def with_rejects(manifest: Manifest, rejected: Sequence[tuple[str, str]]) -> Manifest:
    """The manifest with the clips of the (clip_id, reason) pairs moved to its rejects, in clip order."""
    reasons = dict(rejected)
    is_bad = pc.is_in(manifest.clips["clip_id"], pa.array(list(reasons), pa.string()))
    bad = manifest.clips.filter(is_bad)
    assert len(bad) == len(reasons), sorted(set(reasons) - set(bad["clip_id"].to_pylist()))
    reason = pa.array([reasons[clip_id] for clip_id in bad["clip_id"].to_pylist()], pa.string())
    moved = pa.table([bad["clip_id"], bad["uri"], reason], schema=REJECTS)
    return Manifest(
        clips=manifest.clips.filter(pc.invert(is_bad)),
        rejects=pa.concat_tables([manifest.rejects, moved]),
    )


def _is_csv(data: DataConfig) -> bool:
    return data.layout == "csv" or (data.layout == "auto" and data.uri.lower().endswith(".csv"))


def _table(rows: Sequence[_Clip], schema: pa.Schema) -> pa.Table:
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def _refuse_doubles(clips: Sequence[_Clip], data: DataConfig) -> None:
    doubles = [clip_id for clip_id, n in Counter(clip.clip_id for clip in clips).items() if n > 1]
    if doubles:
        raise UserError(
            f"{data.uri}: {len(doubles)} clip ids stand more than once: {_listed(doubles)}; "
            "remove the copies, or give each clip its own id (--data.id_column) or --data.start_column"
        )


def _with_classes(clips: pa.Table, data: DataConfig) -> pa.Table:
    """The clips with their labels renamed; without those of dropped classes."""
    found = classes_of(clips)
    unknown = [name for name in data.classes if name not in found]
    if unknown and len(clips):
        raise UserError(
            f"data.classes names {_listed(unknown)}, which no clip has; "
            f"the classes found are {_listed(found)}"
        )
    dropped = [name for name, renamed in data.classes.items() if renamed == "drop"]
    kept = clips.filter(pc.invert(pc.is_in(clips["label"], pa.array(dropped, pa.string()))))
    if len(clips) and not len(kept):
        raise UserError(f"data.classes drops all {len(clips)} clips: keep at least two classes")
    if dropped:
        logger.info("%s: data.classes leaves out %d clips", data.uri, len(clips) - len(kept))
    label = [data.classes.get(name, name) for name in kept["label"].to_pylist()]
    return kept.set_column(CLIPS.get_field_index("label"), CLIPS.field("label"), [label])


def _commonest(rejects: pa.Table) -> str:
    """The three commonest kinds of reason with their number and an example, and where the list is."""
    # 'row 17: ' and what stands behind the kind ('too short: 0.04 s < ...') differ from clip to clip.
    reasons = [re.sub(r"^row \d+: ", "", reason) for reason in rejects["reason"].to_pylist()]
    kinds = Counter(reason.partition(":")[0] for reason in reasons)
    example = f"{rejects['clip_id'][0]}: {rejects['reason'][0]}"
    counts = ", ".join(f"{kind} ({n})" for kind, n in kinds.most_common(3))
    return f"{counts} (such as {example}; all are in rejects.parquet of the run)"


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(repr(value) for value in values[:NUM_LISTED])
    return shown if len(values) <= NUM_LISTED else f"{shown} and {len(values) - NUM_LISTED} more"


# Folders: each audio file is a clip


def _folder_clips(data: DataConfig, *, with_labels: bool, carried: Sequence[str]) -> list[_Clip]:
    """The audio files below data.uri, read as data.layout says."""
    if carried:
        raise UserError(
            f"data.uri {data.uri} is no CSV and has no columns, but {_listed(carried)} are asked for"
        )
    if data.layout == "files" and with_labels:
        raise UserError(
            "data.layout is files, which has no labels and no speakers, and this job needs both: give a CSV"
        )
    root = storage.expand(data.uri)
    audio = _audio_uris(root, data)
    if data.layout != "files" and (data.layout == "ravdess" or with_labels or all(map(_is_ravdess, audio))):
        return _ravdess_clips(root, audio, data)
    return [_Clip(clip_id=uri.removeprefix(root).lstrip("/"), uri=uri) for uri in audio]


def _audio_uris(root: str, data: DataConfig) -> list[str]:
    uris = [info.uri for info in storage.list_files(root)]
    audio = [uri for uri in uris if uri.lower().endswith(AUDIO_SUFFIXES)]
    if not audio:
        _refuse_no_audio(data, uris)
    logger.info("%s: passed over %d files that are not audio", root, len(uris) - len(audio))
    return audio


def _is_ravdess(uri: str) -> bool:
    return re.fullmatch("[0-9]{2}(-[0-9]{2}){6}", PurePosixPath(uri).stem) is not None


# RAVDESS: everything stands in the file name


def _ravdess_clips(root: str, audio: Sequence[str], data: DataConfig) -> list[_Clip]:
    """The audio files, without those of the other vocal channel."""
    rows = [_ravdess_clip(uri, uri.removeprefix(root).lstrip("/"), data) for uri in audio]
    clips = [row for row in rows if row is not None]
    if not clips:
        raise UserError(
            f"data.uri {data.uri} has {len(audio)} RAVDESS clips, but none with data.vocal_channel="
            f"{data.vocal_channel}: set --data.vocal_channel both"
        )
    num_left_out = len(rows) - len(clips)
    logger.info("%s: data.vocal_channel=%s leaves out %d clips", root, data.vocal_channel, num_left_out)
    return clips


def _ravdess_clip(uri: str, clip_id: str, data: DataConfig) -> _Clip | None:
    """The clip that the file name tells, or None for one of the other vocal channel."""
    try:
        fields = _ravdess_fields(PurePosixPath(clip_id).stem)
    except _RejectError as error:
        return _Clip(clip_id=clip_id, uri=uri, reason=str(error))
    channel = ("speech", "song")[fields["vocal channel"] - 1]
    if data.vocal_channel not in (channel, "both"):
        return None
    label = RAVDESS_CLASSES[fields["emotion"] - 1]
    return _Clip(clip_id=clip_id, uri=uri, speaker=f"{fields['actor']:02}", label=label)


def _refuse_no_audio(data: DataConfig, uris: Sequence[str]) -> NoReturn:
    suffixes = Counter(PurePosixPath(uri).suffix.lower() or "no suffix" for uri in uris)
    found = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common(5)) or "no file at all"
    raise UserError(
        f"data.uri {data.uri} holds no audio file ({' '.join(AUDIO_SUFFIXES)}), found {found}: "
        "give the folder of the audio files, or a .csv file"
    )


def _ravdess_fields(stem: str) -> dict[str, int]:
    """The seven numbers of a RAVDESS file name; _RejectError says which one is wrong."""
    parts = stem.split("-")
    if len(parts) != len(RAVDESS_FIELDS) or not all(re.fullmatch("[0-9]{2}", part) for part in parts):
        raise _RejectError("name not RAVDESS: wanted seven two-digit fields like 03-01-06-01-02-01-12")
    for i, (part, (name, largest)) in enumerate(zip(parts, RAVDESS_FIELDS.items(), strict=True), start=1):
        if not 1 <= int(part) <= largest:
            raise _RejectError(f"name not RAVDESS: field {i} ({name}) is {part}, wanted 01 to {largest:02}")
    fields = dict(zip(RAVDESS_FIELDS, map(int, parts), strict=True))
    if fields["emotion"] == 1 and fields["intensity"] == 2:
        raise _RejectError(
            "name not RAVDESS: field 4 (intensity) is 02, but neutral (01) has no strong intensity"
        )
    if fields["modality"] != 3:
        raise _RejectError(f"video: field 1 (modality) is {parts[0]}, wanted 03 (audio only)")
    return fields


# CSV: any corpus


def _csv_clips(data: DataConfig, *, with_labels: bool, carried: Sequence[str]) -> Iterator[_Clip]:
    """A clip for each row that is not blank; rows count as in a spreadsheet, the header is row 1."""
    uri = storage.expand(data.uri)
    rows = _csv_rows(uri)
    header = [name.strip() for name in next(rows, [])]
    columns = _csv_columns(header, data, with_labels=with_labels, carried=carried)
    folder = uri.rpartition("/")[0]
    num_rows = 0
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        num_rows += 1
        cells = [cell.strip() for cell in row]
        named = {column: cells[i] for column, i in columns.items() if i < len(cells)}
        clip_id = named.get(data.id_column) or named.get(data.uri_column) or f"row {number}"
        try:
            if len(cells) != len(header):
                raise _RejectError(f"it has {len(cells)} fields, the header has {len(header)}")
            clip = _csv_clip(named, folder, data, with_labels=with_labels)
            yield replace(clip, carried=tuple(named[name] for name in carried)) if carried else clip
        except (_RejectError, UserError) as error:
            reason = f"row {number}: {error}"
            yield _Clip(clip_id=clip_id, uri=named.get(data.uri_column, ""), reason=reason)
    if not num_rows:
        raise UserError(f"data.uri {data.uri} has a header and no rows: wanted one row per clip")


def _csv_rows(uri: str) -> Iterator[list[str]]:
    """The rows of a CSV, header included, in UTF-8 with or without a byte order mark."""
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"data.uri {uri} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(
            f"data.uri {uri} is not CSV from line {reader.line_num} on ({error}): look for an open quote"
        ) from error


def _csv_columns(
    header: Sequence[str], data: DataConfig, *, with_labels: bool, carried: Sequence[str]
) -> dict[str, int]:
    """Where in a row the columns that are used stand."""
    flags = ["uri_column"]
    optional = ["id_column", "start_column", "end_column", "split_column"]
    (flags if with_labels else optional).extend(["label_column", "speaker_column"])
    # A column that the user named must be there; one that has its default name may be missing.
    flags += [flag for flag in optional if getattr(data, flag) != getattr(DataConfig, flag)]
    for flag in flags:
        if getattr(data, flag) not in header:
            raise UserError(
                f"data.uri {data.uri} has no column {getattr(data, flag)!r}, its columns are "
                f"{_listed(header) or 'none'}: set --data.{flag}, and put commas between the columns"
            )
    if lost := [name for name in carried if name not in header]:
        raise UserError(
            f"data.uri {data.uri} has no column {lost[0]!r} to carry along, its columns are {_listed(header)}"
        )
    used = [*(getattr(data, flag) for flag in dict.fromkeys(flags + optional)), *carried]
    double = [name for name in used if header.count(name) > 1]
    if double:
        raise UserError(f"data.uri {data.uri} has two columns {double[0]!r}: rename one of them")
    return {name: header.index(name) for name in used if name in header}


def _csv_clip(cells: dict[str, str], folder: str, data: DataConfig, *, with_labels: bool) -> _Clip:
    """The clip of one row; _RejectError or UserError says what is wrong with it."""
    needed = [data.id_column, data.uri_column]
    needed += [data.label_column, data.speaker_column] if with_labels else []
    empty = [column for column in needed if cells.get(column) == ""]
    if empty:
        raise _RejectError(f"{empty[0]} is empty")
    start_s = _seconds(cells, data.start_column, default=0.0)
    end_s = _seconds(cells, data.end_column, default=math.inf)
    if not start_s < end_s:
        raise _RejectError(f"{data.end_column} {end_s:g} is not behind {data.start_column} {start_s:g}")
    written = cells[data.uri_column]
    # The way media fragments are written: a.wav#t=1.5,3.25
    segment = "" if (start_s, end_s) == (0.0, math.inf) else f"#t={start_s!r},{end_s!r}"
    return _Clip(
        clip_id=cells.get(data.id_column, f"{written}{segment}"),
        uri=_resolved(written, folder),
        start_s=start_s,
        end_s=end_s,
        speaker=cells.get(data.speaker_column, ""),
        split=cells.get(data.split_column, ""),
        label=cells.get(data.label_column, ""),
    )


def _seconds(cells: dict[str, str], column: str, *, default: float) -> float:
    text = cells.get(column, "")
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise _RejectError(f"{column} is {text!r}, wanted seconds, 0 or more")
    return seconds


def _resolved(uri: str, folder: str) -> str:
    """The whole uri of a cell: relative ones are below the CSV's folder."""
    if "://" in uri or uri.startswith(("/", "~")):
        return storage.expand(uri)
    return storage.join(folder, *PurePosixPath(uri).parts)
