"""The clips of a job: found by name, then those whose audio could be used."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.audio.quality import Quality
from w2v2.config.data import DataConfig, FoldsConfig
from w2v2.config.text import TextConfig
from w2v2.data import file_facts, folds, manifest, transcripts
from w2v2.data.clip_columns import ClipColumns
from w2v2.data.corpora import demo
from w2v2.data.corpora.rows import Labels
from w2v2.data.given_files import with_given_files
from w2v2.data.recording_quality import QUALITY, with_quality
from w2v2.errors import Reject, UserError
from w2v2.job_commands import command_of
from w2v2.progress import Progress
from w2v2.storage import files as storage
from w2v2.storage.mapped_tables import on_disk
from w2v2.wording import counted

logger = logging.getLogger(__name__)

D = TypeVar("D", bound=DataConfig)


@runtime_checkable
class ReadClip(Protocol):
    """A clip whose audio was read, such as features.ClipFeatures."""

    @property
    def clip_id(self) -> str:
        """Its name."""
        ...

    @property
    def reject(self) -> Reject | None:
        """The reason why it cannot be used; None if it can."""
        ...

    @property
    def num_samples(self) -> int:
        """Number of its samples at 16 kHz."""
        ...

    @property
    def audio_digest(self) -> str:
        """Digest of its waveform."""
        ...

    @property
    def tolerated(self) -> str:
        """Damage of its file, or what the file lacks, although it is used; '' for most files."""
        ...

    @property
    def quality(self) -> Quality | None:
        """Its recording quality; None where that was not measured."""
        ...


def with_absolute_uri(data: D) -> D:
    """The same data with its places made absolute."""
    return with_given_files(data)


def with_demo_made(data: D, *, task: Labels = "classes") -> D:
    """The data, with the built-in corpus made if data.uri is demo: sentences for transcripts, else acted emotions."""
    if data.uri != "demo":
        return data
    folder = Path(storage.expand("~/.cache/w2v2/demo"))
    if task == "transcript":
        root = demo.make_sentences(folder, on_progress=Progress("demo", unit="clips"))
        return replace(data, uri=str(root), layout="librispeech")
    return replace(data, uri=str(demo.make_corpus(folder, on_progress=Progress("demo", unit="clips"))))


def with_usable_audio(
    run: str, corpus: manifest.Manifest, prepared: Sequence[ReadClip], *, max_reject_fraction: float
) -> manifest.Manifest:
    """The clips that could be used, with facts on their audio as columns; `<run>/rejects.parquet` has the others.

    The columns are num_samples, duration_s, audio_digest, tolerated and those of recording_quality.QUALITY. prepared
    has an item for every clip, in order. Raises UserError when too many are rejected.
    """
    rejected = [(clip.clip_id, clip.reject) for clip in _rejected(prepared) if clip.reject]
    corpus = manifest.with_rejects(corpus, rejected)
    manifest.check_rejects(corpus, max_reject_fraction=max_reject_fraction, run=run)
    clips, facts = corpus.clips, _facts(prepared)
    for name in facts.column_names:
        clips = clips.append_column(name, facts[name])
    # Without rejects these are the same columns as before, of which large ones are on the disk.
    return replace(corpus, clips=on_disk(clips) if rejected else clips)


def _rejected(prepared: Sequence[ReadClip]) -> Sequence[ReadClip]:
    """The rejected clips. Where clips are in columns, only these become objects: a million objects would take seconds."""
    if not isinstance(prepared, ClipColumns):
        return prepared
    return prepared.among(pc.not_equal(prepared.table["reason"], ""))


def _facts(prepared: Sequence[ReadClip]) -> pa.Table:
    """The columns that usable clips get."""
    if isinstance(prepared, ClipColumns):
        rows = prepared.among(pc.equal(prepared.table["reason"], "")).table
        seconds = pc.divide(pc.cast(rows["num_samples"], pa.float64()), float(SAMPLE_RATE))
        names = ("num_samples", "audio_digest", "tolerated", *QUALITY)
        return pa.table({name: rows[name] for name in names}).add_column(1, "duration_s", seconds)
    good = [clip for clip in prepared if not clip.reject]
    columns = {
        "num_samples": pa.array([clip.num_samples for clip in good], pa.int64()),
        "duration_s": pa.array([clip.num_samples / SAMPLE_RATE for clip in good], pa.float64()),
        "audio_digest": pa.array([clip.audio_digest for clip in good], pa.string()),
        "tolerated": pa.array([clip.tolerated for clip in good], pa.string()),
    }
    return with_quality(pa.table(columns), [clip.quality for clip in good])


def refuse_foreign_folds(data: DataConfig, fold_config: FoldsConfig) -> None:
    """Raises UserError where folds.kind=published, the folds of RAVDESS, is asked for another corpus."""
    if fold_config.kind != "published" or data.layout in ("auto", "csv", "ravdess"):
        return
    folds_of = {
        "iemocap": "use its sessions (--folds.kind column --folds.num_folds 5)",
        "msp_podcast": f"use its splits ({command_of('finetune')}), or --folds.kind grouped",
    }
    todo = folds_of.get(data.layout, "none were published with it, so use --folds.kind grouped")
    raise UserError(f"folds.kind=published are the folds of RAVDESS, got data.layout={data.layout}: {todo}")


def read_clips_and_check_folds(
    run: str, data: DataConfig, fold_config: FoldsConfig, *, text: TextConfig | None = None
) -> manifest.Manifest:
    """The clips by name, after a trial assignment to folds that finds mistakes early.

    text says how transcripts are normalised; None is for classes. Raises UserError for too many rejects and for folds
    that cannot be made of these clips.
    """
    data = with_demo_made(data, task="classes" if text is None else "transcript")
    refuse_foreign_folds(data, fold_config)
    if text is None:
        corpus = file_facts.without_missing_files(manifest.read(data), data)
        manifest.check(corpus, max_reject_fraction=data.max_reject_fraction, run=run)
    else:
        corpus = file_facts.without_missing_files(manifest.read(data, task="transcript"), data)
        corpus = transcripts.with_references(corpus, text)
        manifest.check_rejects(corpus, max_reject_fraction=data.max_reject_fraction, run=run)
    folds.assign(corpus.clips, fold_config)
    log_clips(corpus)
    return corpus


def log_clips(corpus: manifest.Manifest) -> None:
    """Log how many clips of how many speakers were found, and how many were rejected by name."""
    clips, speakers = len(corpus.clips), len(corpus.clips["speaker"].unique())
    logger.info(
        "data: %s of %s, %d rejected by name",
        counted(clips, "clips"),
        counted(speakers, "speakers"),
        len(corpus.rejects),
    )


def in_folds(
    run: str,
    corpus: manifest.Manifest,
    prepared: Sequence[ReadClip],
    *,
    data: DataConfig,
    fold_config: FoldsConfig,
) -> manifest.Manifest:
    """The clips whose audio could be used, with their folds.

    Raises UserError for too many rejects, and where a speaker or the same audio is in two folds.
    """
    corpus = with_usable_audio(run, corpus, prepared, max_reject_fraction=data.max_reject_fraction)
    if "reference" not in corpus.clips.column_names:
        manifest.check(corpus, max_reject_fraction=data.max_reject_fraction)
    clips = folds.assign(corpus.clips, fold_config)
    folds.audit(clips)
    logger.info(
        "folds: %d of %d clips usable, no speaker and no audio on both sides", len(clips), len(prepared)
    )
    return replace(corpus, clips=clips)
