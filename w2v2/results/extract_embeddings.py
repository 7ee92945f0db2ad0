"""The end of an extraction: parts into the table, rejects into theirs, metrics.json and the page."""

import logging
import time
from typing import Any

import pyarrow as pa

from w2v2.data.accounting import account
from w2v2.data.manifest import Manifest
from w2v2.errors import ResumableError
from w2v2.evaluation.recording_quality import recording_details
from w2v2.inference.extraction import Job, counts, lost_to_newer, parts_of
from w2v2.inference.reject_table import commit_rejects, rejects_table
from w2v2.machine import describe_run
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.seals import parse_json
from w2v2.tables.parts import DamagedPartError
from w2v2.tables.spec import Commit, rejects_spec
from w2v2.tables.table import Table, open_table
from w2v2.versions import library_versions

logger = logging.getLogger(__name__)


def write_outcome(
    clips: pa.Table,
    corpus: Manifest,
    job: Job,
    table: Table,
    *,
    num_made: int,
    audio_s: float,
    started: float,
) -> dict[str, Any]:
    """The run's numbers, after the parts are in the table, the rejects in theirs and the page is written.

    num_made clips and audio_s seconds of audio were embedded by this attempt, which began at `started` (monotonic).
    """
    # Imported here: matplotlib takes a second, which the start of a job need not wait for.
    from w2v2.reports.extraction_page import write_extraction_report

    config = job.config
    num = counts(clips)
    parts = parts_of(clips, config.run)
    logger.info("table: taking %d parts into %s", len(parts), config.table)
    commit = _commit(clips, job, table, parts)
    rejects = open_table(rejects_table(config.table), rejects_spec())
    commit_rejects(rejects, corpus.rejects, job)
    seconds = time.monotonic() - started
    metrics = {
        "job": "extract_embeddings",
        "table": config.table,
        "num_clips": num["embedded"] + num["there"] + len(corpus.rejects),
        "written": num["embedded"],
        "there": num["there"],
        "rejected": len(corpus.rejects),
        "num_made": num_made,
        "rows": {"inserted": commit.inserted, "replaced": commit.replaced, "unchanged": commit.unchanged, "stale": commit.stale, "removed": commit.removed},
        "audio_hours": audio_s / 3600,
        "clips": account(corpus),
        "recordings": recording_details(corpus.clips),
        "seconds": seconds,
        "encoder": {"name": config.encoder.name, "digest": job.digest, "layers": list(job.layers), "pooling": config.encoder.pooling, "dim": job.dim},
        "made": describe_run(),
        "versions": library_versions("torch", "transformers", "ray"),
    }  # fmt: skip
    if num_made or commit.pending or not _is_reported(config.run, metrics):
        run_directory.write_metrics(config.run, metrics)
        logger.info("page: %s", write_extraction_report(config.run))
    else:
        logger.info("nothing was to be done: metrics.json and the page stay as they were")
    logger.info(
        "%d clips: %d written, %d already there, %d rejected; %s",
        metrics["num_clips"], metrics["written"], metrics["there"], metrics["rejected"], config.table,
    )  # fmt: skip
    return metrics


def _commit(clips: pa.Table, job: Job, table: Table, parts: list[str]) -> Commit:
    """The counts of the commit. Raises ResumableError where the table then lacks the vectors of some clip."""
    try:
        commit = table.commit(parts)
    except DamagedPartError as error:
        storage.delete(error.uri)
        raise ResumableError(
            f"part {error.uri} was damaged and is deleted: run the same command again, which embeds its clips again"
        ) from error
    lost = lost_to_newer(clips, job, table) if commit.stale else 0
    if lost:
        raise ResumableError(
            f"{job.config.table} has got newer rows of {lost} of these clips from another run, of other settings or "
            "weights: run the same command again, which embeds them again, or give one of the two a table of its own"
        )
    return commit


def _is_reported(run: str, metrics: dict[str, Any]) -> bool:
    """Whether the run directory has the page and metrics of an attempt that wrote the same clips."""
    names = ("job", "table", "num_clips", "rejected", "encoder")
    place = storage.join(run, "metrics.json")
    try:
        earlier = parse_json(place, storage.read_bytes(place))
    except (storage.NotFoundError, storage.DamagedError):
        return False
    is_earlier = all(earlier.get(name) == metrics[name] for name in names)
    return is_earlier and storage.exists(storage.join(run, "report.html"))
