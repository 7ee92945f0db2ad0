"""The plan of a job, which every job reports with --plan true; nothing is computed, and only a CSV is written.

The CSV is the clips as they were understood; checked and edited, it is read back by --data.layout csv.
"""

import itertools
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
import pyarrow as pa

from w2v2.audio.decoding import SAMPLE_RATE, AudioError
from w2v2.audio.waveforms import read_clip
from w2v2.config.command_line import tree
from w2v2.config.data import AudioConfig, CacheConfig
from w2v2.config.job import JobConfig
from w2v2.data import clip_csv, file_facts, manifest, usable_clips
from w2v2.data.accounting import account
from w2v2.data.corpora.labels_file import labels_text
from w2v2.data.corpora.rows import Labels
from w2v2.data.manifest import Manifest
from w2v2.data.rejects import kinds_of
from w2v2.features.stored_features import StoredFeatures, stored_features
from w2v2.json_types import Json, JsonObject
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.wording import counted

logger = logging.getLogger(__name__)

C = TypeVar("C")

CSV_FILE, LABELS_FILE = "clips", "clips_labels"
NUM_SAMPLED = 16
"""The number of files that are read to estimate how long the others are."""
NUM_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class FrozenFeatures:
    """Features of one kind that are computed once per clip and cached."""

    name: str
    key: str = ""
    """The folder in the cache; empty where the encoder has to be loaded to know it."""
    bytes_per_clip: float = 0.0
    """Bytes in the cache; 0 where they are unknown."""
    bytes_per_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of a job besides reading the data."""

    task: Labels
    audio: AudioConfig
    writes: Sequence[str]
    """Files and folders below the run directory."""
    table: str = ""
    """The table that gets rows, if any."""
    computes: Sequence[str] = ()
    """Sentences: trials, folds, epochs, steps."""
    frozen: Sequence[FrozenFeatures] = ()
    cache: CacheConfig | None = None
    num_done: int = 0
    """Clips whose outcome an earlier attempt of this run kept."""
    extra_columns: Sequence[str] = ()
    """Text columns of the clips, which the CSV of the plan has, too."""
    numbers: Mapping[str, Json] = field(default_factory=dict)
    """Numbers that this kind of job alone has."""


def reading_all(config: C) -> C:
    """The settings to read a job's clips for a plan: no number of rejects ends it."""
    return replace(config, run="", data=replace(config.data, max_reject_fraction=1.0))  # type: ignore[type-var, attr-defined]


def report_plan(config: JobConfig, corpus: Manifest, work: Work) -> dict[str, Json]:
    """The plan (what the job would read, use, reject, compute and write), logged and returned, after `<run>/clips.csv` is written.

    Raises UserError where the job would stop, with the job's message.
    """
    logger.info("plan: data.uri %s (data.layout %s)", config.data.uri, config.data.layout)
    if "fingerprint" not in corpus.clips.column_names:
        corpus = file_facts.add_file_facts(corpus, usable_clips.with_demo_made(config.data, task=work.task))
    plan: dict[str, Json] = {"job": "plan", "clips": account(corpus), **work.numbers}
    _log_rejects(corpus)
    stored = _stored(corpus.clips, config, work)
    audio: JsonObject = _audio(corpus.clips, stored, work)
    plan |= {**audio, **_features(stored, work, audio["audio_hours"])}
    for sentence in work.computes:
        logger.info("plan: %s", sentence)
    logger.info("plan: would write in %s: %s", config.run, ", ".join(work.writes))
    if work.table:
        logger.info("plan: would write the table %s", work.table)
    plan |= _csv(config, corpus, work)
    if config.RESUMABLE:
        run_directory.check_same_settings(replace(config, plan=False))
    manifest.check_rejects(corpus, max_reject_fraction=config.data.max_reject_fraction)
    return plan


def _log_rejects(corpus: Manifest) -> None:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for kind, row in zip(kinds_of(corpus.rejects), corpus.rejects.to_pylist(), strict=True):
        by_kind[kind].append(f"{row['clip_id']} ({row['reason']})")
    for kind, clips in by_kind.items():
        more = f" and {len(clips) - NUM_EXAMPLES} more" if len(clips) > NUM_EXAMPLES else ""
        logger.info("plan: rejected, %s: %s%s", kind, ", ".join(clips[:NUM_EXAMPLES]), more)


# -- audio


def _stored(clips: pa.Table, config: JobConfig, work: Work) -> StoredFeatures | None:
    if work.cache is None:
        return None
    keys = [encoder.key for encoder in work.frozen]
    return stored_features(
        clips, keys if all(keys) else [], data=config.data, audio=work.audio, cache=work.cache
    )


def _audio(clips: pa.Table, stored: StoredFeatures | None, work: Work) -> dict[str, Json]:
    """Hours of audio: exact for files that an earlier run read; for others estimated from a few files that are read now."""
    lengths = np.full(len(clips), math.nan) if stored is None else np.array(stored.durations_s)
    spans = np.array(clips["end_s"].to_pylist(), float) - np.array(clips["start_s"].to_pylist(), float)
    is_measured = ~np.isnan(lengths)
    if work.audio.fixed_s:
        lengths[:] = work.audio.fixed_s
    lengths = np.where(np.isnan(lengths) & np.isfinite(spans), _cropped(spans, work.audio), lengths)
    todo = np.flatnonzero(np.isnan(lengths))
    num_read = num_bad = 0
    if len(todo):
        chosen = todo[np.unique(np.linspace(0, len(todo) - 1, NUM_SAMPLED).astype(int))]
        sampled, reasons = _sampled(clips.take(chosen), work.audio)
        num_read, num_bad = len(chosen), len(reasons)
        for reason in reasons:
            logger.info("plan: would be rejected, %s", reason)
        lengths[todo] = _by_size(clips.take(todo), clips.take(chosen), sampled)
    hours = float(np.nansum(lengths)) / 3600
    logger.info(
        "plan: %s%.3g hours of audio in %.3g GB of files; %d of %d clips were measured by earlier runs, %d files were read now, "
        "of which %d cannot be used",
        "about " if num_read else "", hours, _bytes(clips) / 1e9, is_measured.sum(), len(clips), num_read, num_bad,
    )  # fmt: skip
    return {
        "audio_hours": hours,
        "num_bytes": _bytes(clips),
        "num_sampled": num_read,
        "num_sampled_bad": num_bad,
    }


def _bytes(clips: pa.Table) -> int:
    """The bytes of the files, each counted once."""
    return sum(dict(zip(clips["uri"].to_pylist(), clips["size_bytes"].to_pylist(), strict=True)).values())


def _cropped(seconds: np.ndarray, audio: AudioConfig) -> np.ndarray:
    return np.minimum(seconds, audio.crop_s) if audio.crop_s else seconds


def _sampled(clips: pa.Table, audio: AudioConfig) -> tuple[list[float], list[str]]:
    """Seconds of each clip, NaN for clips that cannot be used, and the reasons why not."""
    seconds, reasons = [], []
    bodies = storage.read_many(clips["uri"].to_pylist(), num_at_once=NUM_SAMPLED)
    for row, body in zip(clips.to_pylist(), bodies, strict=True):
        try:
            clip = read_clip(body, audio, start_s=row["start_s"], end_s=row["end_s"])
            seconds.append(len(clip.waveform) / SAMPLE_RATE)
        except (AudioError, storage.StorageError) as error:
            seconds.append(math.nan)
            reasons.append(f"{row['clip_id']} ({error.reject.reason})")
    return seconds, reasons


def _by_size(clips: pa.Table, sampled: pa.Table, seconds: Sequence[float]) -> list[float]:
    """Seconds of each clip, estimated from the bytes of its file.

    The seconds per byte are those of the sampled files of its format, or of all sampled files where its format has
    none.
    """
    rates: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for uri, length, size in zip(
        sampled["uri"].to_pylist(), seconds, sampled["size_bytes"].to_pylist(), strict=True
    ):
        if not math.isnan(length):
            rates[_suffix(uri)].append((length, size))
            rates[""].append((length, size))
    s_per_byte = {
        suffix: sum(length for length, _ in pairs) / max(1, sum(size for _, size in pairs))
        for suffix, pairs in rates.items()
    }
    overall = s_per_byte.get("", math.nan)
    rows = zip(clips["uri"].to_pylist(), clips["size_bytes"].to_pylist(), strict=True)
    return [size * s_per_byte.get(_suffix(uri), overall) for uri, size in rows]


def _suffix(uri: str) -> str:
    return PurePosixPath(uri).suffix.lower()


# -- features and the CSV


def _features(stored: StoredFeatures | None, work: Work, hours: float) -> dict[str, Json]:
    """The features in the cache, the features to compute, and the disk space that they would take (None where unknown)."""
    if stored is None:
        if work.num_done:
            logger.info("plan: %s done by an earlier attempt of this run", counted(work.num_done, "clips"))
        return {"num_done": work.num_done}
    num_cached = sum(stored.has_features)
    num_left = len(stored.has_features) - num_cached
    left_s = max(0.0, 3600 * hours - stored.stored_s)
    unknown = [encoder.name for encoder in work.frozen if not encoder.key]
    sizes = [encoder.bytes_per_clip * num_left + encoder.bytes_per_s * left_s for encoder in work.frozen]
    num_bytes: float | None = sum(sizes)
    if not all(sizes) and num_left:
        num_bytes = stored.num_bytes / stored.stored_s * left_s if stored.stored_s else None
    names = ", ".join(dict.fromkeys(encoder.name for encoder in work.frozen)) or "nothing"
    logger.info(
        "plan: features (%s): %d of %d clips are in the cache, %d would be computed%s",
        names, num_cached, len(stored.has_features), num_left,
        f"; no job has used this cache with {', '.join(unknown)}, so what the cache has is unknown" if unknown else "",
    )  # fmt: skip
    assert work.cache is not None
    size = (
        "an unknown size, until the encoder was loaded once"
        if num_bytes is None
        else f"about {num_bytes / 1e9:.3g} GB"
    )
    logger.info("plan: the cache %s would grow by %s", work.cache.uri, size if num_left else "nothing")
    return {
        "num_cached": num_cached,
        "num_to_compute": num_left,
        "cache_bytes": num_bytes if num_left else 0.0,
    }


def _csv(config: JobConfig, corpus: Manifest, work: Work) -> dict[str, Json]:
    """Writes the clips as they were understood, and logs the flags that read them back."""
    slices = [name for name in config.data.slice_columns if name in corpus.clips.column_names]
    content, num_lost = clip_csv.clips_csv(
        corpus, task=work.task, extra_columns=[*work.extra_columns, *slices]
    )
    uri = _written(config, CSV_FILE, ".csv", content)
    labels_uri = ""
    if work.task == "multi_label" and len(corpus.groups) > 1:
        labels_uri = _written(config, LABELS_FILE, ".txt", labels_text(corpus.groups).encode())
    data = clip_csv.read_back(config.data, corpus, uri, labels_uri=labels_uri)
    logger.info(
        "plan: the clips as they were understood are in %s; check or edit it, and give it to the job by %s",
        uri, clip_csv.flags(config.data, data),
    )  # fmt: skip
    if "fold" in corpus.clips.column_names:
        logger.info(
            "plan: for folds of your own edit its column fold, and add --folds.kind column --data.split_column fold"
        )
    if num_lost:
        logger.warning(
            "%d clips are not in %s: their names have line breaks or spaces at an end, which a CSV cannot give back; rename them",
            num_lost, uri,
        )  # fmt: skip
    return {"csv": uri, "data": tree(data)}


def _written(config: JobConfig, stem: str, suffix: str, content: bytes) -> str:
    """The uri of a file with this content in the run directory; a file that was edited, or that the job reads now, is not overwritten."""
    for number in itertools.count(1):
        uri = storage.join(config.run, f"{stem}{f'-{number}' if number > 1 else ''}{suffix}")
        try:
            if storage.read_bytes(uri) == content:
                return uri
        except storage.NotFoundError:
            storage.write_bytes(uri, content)
            return uri
    raise AssertionError("there is always a next number")
