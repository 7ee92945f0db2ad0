"""The clip table: one row per clip, with its speaker and labels.

Read from the file names of a RAVDESS folder, from a table (CSV, Parquet, a spreadsheet), a clinic's folder or DEAM, local or gs://. A clip
that cannot be used is a row of `rejects` with its reason, never an exception and never dropped without a
trace.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.data import DataConfig
from w2v2.data import names
from w2v2.data.clip_columns import TablesInOrder
from w2v2.data.corpora.clinic import read_clinic
from w2v2.data.corpora.common_voice import read_common_voice
from w2v2.data.corpora.csv_corpus import read_csv
from w2v2.data.corpora.deam import read_deam
from w2v2.data.corpora.file_names import read_named
from w2v2.data.corpora.iemocap import read_iemocap
from w2v2.data.corpora.label_table import is_table
from w2v2.data.corpora.librispeech import read_librispeech
from w2v2.data.corpora.msp_podcast import read_msp_podcast
from w2v2.data.corpora.ravdess import RAVDESS_CLASSES, read_folder
from w2v2.data.corpora.rows import DROPPED, ClipRow, CorpusRows, Groups, Labels
from w2v2.data.groups import looked_up, repeated
from w2v2.data.recording_quality import QUALITY
from w2v2.data.reject_limit import check_number_of_rejects
from w2v2.data.rejects import REJECTS, reject_columns
from w2v2.errors import Reject, UserError
from w2v2.redaction import redacted
from w2v2.wording import counted, quoted

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
"""start_s and end_s are a segment of the file (inf is its end); split is empty where there is none, label
for tasks without classes, which have float64 columns target_<name> behind these, null where missing, or for
transcripts a string column text, as the data has it."""


ROWS_AT_ONCE = 10_000
"""Rows of a corpus that are Python objects at the same time, where its reader returns them one by one."""

_ADDED = (
    "fold",
    "duration_s",
    "audio_digest",
    "num_samples",
    "tolerated",
    "size_bytes",
    "checksum",
    "fingerprint",
    *QUALITY,
)
"""Columns that clips get later."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The clips that can be used (CLIPS) and those that cannot (REJECTS)."""

    clips: pa.Table
    rejects: pa.Table
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Numbers of files and rows that are neither clips nor rejects, by kind: hidden files, dropped classes, other
    splits."""
    groups: Groups = ()
    """The names of the targets, one inner tuple per head; empty for classes."""


def read(data: DataConfig, *, task: Labels = "classes", extra_columns: Sequence[str] = ()) -> Manifest:
    """The clips of data.uri, with classes renamed, merged or dropped as data.classes says.

    For task none a clip may lack label, targets and speaker, and 'auto' reads any folder of audio. `extra_columns` are
    text columns of the CSV that clips get, too.

    Folders give clips in the order of their uri, DEAM in the order of its songs, a CSV in its own. Clips of a
    class that is dropped, of the other vocal channel and of other studies are neither clips nor rejects;
    their number is logged. Raises UserError when nothing can be found at all, for a CSV without a needed
    column, for a duplicate clip_id, and where the data cannot have what the task learns.
    """
    if data.sheet and not (data.layout == "csv" or (data.layout == "auto" and is_table(data.uri))):
        raise UserError(
            f"data.sheet={data.sheet!r} is for a spreadsheet, got data.uri {data.uri}: leave it out"
        )
    if data.classes and task in ("multi_label", "regression", "transcript"):
        raise UserError(
            f"data.classes renames classes, got task.kind={task}, which has none: remove data.classes"
        )
    extra_columns = (*extra_columns, *_slice_columns(data, task))
    return of_corpus(_read_layout(data, task, extra_columns), data, task=task, extra_columns=extra_columns)


def of_corpus(
    corpus: CorpusRows, data: DataConfig, *, task: Labels, extra_columns: Sequence[str]
) -> Manifest:
    """The clips of `read`, from the rows of their corpus. Raises UserError for a clip_id twice and for unknown data.classes."""
    as_read = of_rows(corpus, task=task, extra_columns=extra_columns)
    refuse_duplicates(repeated(as_read.clips["clip_id"]).to_pylist(), data)
    clips = as_read.clips
    for column in ("speaker", "label"):
        clips = names.merged(clips, column, merge=data.merge_names)
    kept = _with_classes(clips, data)
    passed_over = Counter(corpus.passed_over) + Counter({DROPPED: len(clips) - len(kept)})
    logger.info("%s: %s, %d rejected", data.uri, counted(len(kept), "clips"), len(as_read.rejects))
    return replace(as_read, clips=kept, passed_over=passed_over)


def of_rows(corpus: CorpusRows, *, task: Labels, extra_columns: Sequence[str]) -> Manifest:
    """The rows as clips and rejects; each row is checked alone, so a clip_id may occur twice and names may look alike."""
    rows = map(_checked, corpus.rows)
    clips = TablesInOrder(_clips([], corpus.groups, task, extra_columns).schema)
    rejects = [REJECTS.empty_table()]
    for number in itertools.count():
        if not (portion := list(itertools.islice(rows, ROWS_AT_ONCE))):
            break
        usable = [row for row in portion if not row.reject]
        clips.add(number, _clips(usable, corpus.groups, task, extra_columns))
        rejects.append(_rejects([row for row in portion if row.reject]))
    return Manifest(
        clips=clips.all(),
        rejects=pa.concat_tables(rejects).combine_chunks(),
        groups=corpus.groups,
        passed_over=corpus.passed_over,
    )


def _clips(rows: Sequence[ClipRow], groups: Groups, task: Labels, extra_columns: Sequence[str]) -> pa.Table:
    clips = _with_extra_columns(_table(rows, CLIPS), rows, groups, extra_columns)
    if task == "transcript":
        clips = clips.append_column("text", pa.array([row.text for row in rows], pa.string()))
    return clips


def _checked(row: ClipRow) -> ClipRow:
    """The row without secrets; a reject where a name is not text or means that there is no value, such as nan.

    The uri of a clip that can be read stays as it is.
    """
    row = replace(row, clip_id=redacted(row.clip_id), extra_cells=tuple(map(redacted, row.extra_cells)))
    texts = {name: getattr(row, name) for name in ("clip_id", "uri", "speaker", "label", "split")}
    if any(not text.isascii() and not _is_text(text) for text in texts.values()):
        shown: dict[str, Any] = {name: _shown(text) for name, text in texts.items()}
        return replace(
            row,
            **shown,
            extra_cells=tuple(map(_shown, row.extra_cells)),
            reject=undecodable_name(shown["uri"]),
        )
    if row.reject:
        return row
    for name, missing in (("speaker", names.MISSING_SPEAKER), ("label", names.MISSING)):
        if texts[name] in missing:
            return replace(row, reject=Reject(kind=f"no {name}", detail=f"it is {texts[name]!r}"))
    return row


def undecodable_name(shown_uri: str) -> Reject:
    """The reject of a file whose name has bytes that are not UTF-8, here escaped."""
    return Reject(kind="name is no text", detail=f"{shown_uri} has bytes that are not UTF-8: rename it")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a file name that are not UTF-8
        return False
    return True


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _slice_columns(data: DataConfig, task: Labels) -> tuple[str, ...]:
    """The extra columns whose values clips are compared by; none for a job without labels.

    Raises UserError where the task has no classes, and for the name of a column that clips have already.
    """
    names = data.slice_columns
    if names and task not in ("classes", "none"):
        raise UserError(
            f"data.slice_columns ({quoted(names)}) is for classes, got task.kind={task}: remove it"
        )
    if taken := [name for name in names if name in (*CLIPS.names, *_ADDED) or names.count(name) > 1]:
        raise UserError(
            f"data.slice_columns names {taken[0]!r}, which a clip has already: name other columns, each once"
        )
    return names if task == "classes" else ()


def _read_layout(data: DataConfig, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    match data.layout:
        case "csv":
            return read_csv(data, task=task, extra_columns=extra_columns)
        case "clinic":
            return read_clinic(data, task=task, extra_columns=extra_columns)
        case "deam":
            return read_deam(data, task=task, extra_columns=extra_columns)
        case "librispeech":
            return read_librispeech(data, task=task, extra_columns=extra_columns)
        case "common_voice":
            return read_common_voice(data, task=task, extra_columns=extra_columns)
        case "emodb" | "crema_d" | "savee" | "tess":
            return read_named(data, task=task, extra_columns=extra_columns)
        case "iemocap":
            return read_iemocap(data, task=task, extra_columns=extra_columns)
        case "msp_podcast":
            return read_msp_podcast(data, task=task, extra_columns=extra_columns)
        case "auto" if is_table(data.uri):
            return read_csv(data, task=task, extra_columns=extra_columns)
        case "auto" | "ravdess" | "files":
            return read_folder(data, task=task, extra_columns=extra_columns)


def classes_of(clips: pa.Table) -> list[str]:
    """The classes of the clips: in RAVDESS's order when all are emotions of RAVDESS, else sorted."""
    labels = set(clips["label"].unique().to_pylist())
    if labels <= set(RAVDESS_CLASSES):
        return [name for name in RAVDESS_CLASSES if name in labels]
    return sorted(labels)


def check(manifest: Manifest, *, max_reject_fraction: float, run: str = "") -> None:
    """Raises UserError when there is no clip, one class only, or too large a fraction of rejects."""
    check_rejects(manifest, max_reject_fraction=max_reject_fraction, run=run)
    classes = classes_of(manifest.clips)
    if len(classes) == 1:
        raise UserError(
            f"all {len(manifest.clips)} clips have the class {classes[0]!r}, wanted two classes or more: "
            "look at data.label_column and data.classes"
        )


def check_rejects(manifest: Manifest, *, max_reject_fraction: float, run: str = "") -> None:
    """Raises UserError when there is no clip or too large a fraction of rejects, after `<run>/rejects.parquet` is written."""
    check_number_of_rejects(
        len(manifest.clips), manifest.rejects, max_reject_fraction=max_reject_fraction, run=run
    )


def with_rejects(manifest: Manifest, rejected: Sequence[tuple[str, Reject]]) -> Manifest:
    """The manifest with the clips of the (clip_id, reject) pairs moved to its rejects, in clip order."""
    if not rejected:
        return manifest
    by_clip = dict(rejected)
    is_bad = pc.is_in(manifest.clips["clip_id"], pa.array(list(by_clip), pa.string()))
    bad = manifest.clips.filter(is_bad)
    assert len(bad) == len(by_clip), sorted(set(by_clip) - set(bad["clip_id"].to_pylist()))
    columns = reject_columns([by_clip[clip_id] for clip_id in bad["clip_id"].to_pylist()])
    uris = [redacted(uri) for uri in bad["uri"].to_pylist()]
    moved = pa.table({"clip_id": bad["clip_id"], "uri": uris, **columns}, schema=REJECTS)
    return replace(
        manifest,
        clips=manifest.clips.filter(pc.invert(is_bad)),
        rejects=pa.concat_tables([manifest.rejects, moved]),
    )


def _table(rows: Sequence[ClipRow], schema: pa.Schema) -> pa.Table:
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def _rejects(rows: Sequence[ClipRow]) -> pa.Table:
    named = {name: [redacted(getattr(row, name)) for row in rows] for name in ("clip_id", "uri")}
    named |= reject_columns([row.reject for row in rows if row.reject])
    return pa.table(named, schema=REJECTS)


def _with_extra_columns(
    clips: pa.Table, rows: Sequence[ClipRow], groups: Groups, extra_columns: Sequence[str]
) -> pa.Table:
    """The clips with a column for each target and each extra text column."""
    targets = [name for group in groups for name in group]
    for i, name in enumerate(targets):
        values = pa.array([row.targets[i] for row in rows], pa.float64())
        clips = clips.append_column(pa.field(f"target_{name}", pa.float64()), values)
    for i, name in enumerate(extra_columns):
        values = pa.array([row.extra_cells[i] for row in rows], pa.string())
        clips = clips.append_column(pa.field(name, pa.string()), values)
    return clips


def refuse_duplicates(duplicates: Sequence[str], data: DataConfig) -> None:
    """Raises UserError about these names, each of several clips, if there are any."""
    if duplicates:
        raise UserError(
            f"{data.uri}: {len(duplicates)} clip ids are not unique: {quoted(duplicates)}; "
            "remove the copies, or give each clip its own id (--data.id_column) or --data.start_column"
        )


def _with_classes(clips: pa.Table, data: DataConfig) -> pa.Table:
    """The clips with their labels renamed; without those of dropped classes."""
    if not data.classes:
        return clips
    present = classes_of(clips)
    unknown = [name for name in data.classes if name not in present]
    if unknown and len(clips):
        raise UserError(
            f"data.classes names {quoted(unknown)}, which no clip has; the classes found are {quoted(present)}"
        )
    dropped = [name for name, renamed in data.classes.items() if renamed == "drop"]
    kept = clips.filter(pc.invert(pc.is_in(clips["label"], pa.array(dropped, pa.string()))))
    if len(clips) and not len(kept):
        raise UserError(f"data.classes drops all {len(clips)} clips: keep at least two classes")
    if dropped:
        logger.info("%s: data.classes leaves out %s", data.uri, counted(len(clips) - len(kept), "clips"))
    names_of = {name: data.classes.get(name, name) for name in present}
    label = pa.array(looked_up(kept["label"], names_of), pa.string())
    return kept.set_column(CLIPS.get_field_index("label"), CLIPS.field("label"), label)
