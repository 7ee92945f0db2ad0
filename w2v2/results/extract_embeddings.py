"""The end of an extraction: parts are taken into the table and rejects into their own; then metrics.json and the page are written."""

import logging
import time
from collections.abc import Callable, Sequence

from w2v2.errors import ResumableError
from w2v2.evaluation.recording_quality import recording_details
from w2v2.inference.extraction import ExtractionJob
from w2v2.inference.reject_table import commit_rejects, rejects_table
from w2v2.inference.shards import Finished
from w2v2.json_types import Json
from w2v2.machine import describe_run
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.seals import parse_json
from w2v2.tables.parts import DamagedPartError, groups_of
from w2v2.tables.spec import Commit, rejects_spec
from w2v2.tables.table import Table, open_table
from w2v2.versions import library_versions
from w2v2.wording import counted

logger = logging.getLogger(__name__)

OTHER_BYTES = 300
"""About the bytes of a row without its vector."""


def write_outcome(
    finished: Finished,
    job: ExtractionJob,
    table: Table,
    *,
    lost: Callable[[], int],
    num_made: int,
    audio_s: float,
    started: float,
) -> dict[str, Json]:
    """The run's numbers, after the parts are in the table, the rejects are in their own table and the page is written.

    num_made clips and audio_s seconds of audio were embedded by this attempt, which began at `started` (monotonic). lost
    counts the written clips for which the table then has newer rows of another run. Raises ResumableError where there are
    such clips, and where a part is damaged.
    """
    # Imported here: matplotlib takes a second, which the start of a job need not wait for.
    from w2v2.reports.extraction_page import write_extraction_report

    config, num, num_rejects = job.config, finished.counts, len(finished.rejects)
    num_clips = finished.num_used + num_rejects
    logger.info("table: taking %s into %s", counted(len(finished.parts), "parts"), config.table)
    commit = _commit(finished.parts, job, table, lost)
    rejects = open_table(rejects_table(config.table), rejects_spec())
    commit_rejects(rejects, finished.rejects, job)
    seconds = time.monotonic() - started
    metrics: dict[str, Json] = {
        "job": "extract_embeddings",
        "table": config.table,
        "num_clips": num_clips,
        "written": num["embedded"],
        "in_table": num["in_table"],
        "rejected": num_rejects,
        "num_made": num_made,
        "rows": {"inserted": commit.inserted, "replaced": commit.replaced, "unchanged": commit.unchanged, "stale": commit.stale, "removed": commit.removed},
        "audio_hours": audio_s / 3600,
        "clips": finished.account(),
        "recordings": recording_details(finished.recordings),
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
        "%s: %d written, %d already in the table, %d rejected; %s",
        counted(num_clips, "clips"), metrics["written"], metrics["in_table"], metrics["rejected"], config.table,
    )  # fmt: skip
    return metrics


def _commit(parts: Sequence[str], job: ExtractionJob, table: Table, lost: Callable[[], int]) -> Commit:
    """The counts of the commits. Raises ResumableError where the table then lacks the vectors of some clip."""
    commit = Commit()
    try:
        num_rows = max(1, table.bytes_per_commit // (OTHER_BYTES + 4 * job.dim))
        for group in groups_of(parts, num_rows=num_rows):
            commit += table.commit(group)
    except DamagedPartError as error:
        storage.delete(error.uri)
        raise ResumableError(
            f"part {error.uri} was damaged and is deleted: run the same command again, which embeds its clips again"
        ) from error
    num_lost = lost() if commit.stale else 0
    if num_lost:
        raise ResumableError(
            f"{job.config.table} has got newer rows of {num_lost} of these clips from another run, of other settings or "
            "weights: run the same command again, which embeds them again, or give one of the two a table of its own"
        )
    return commit


def _is_reported(run: str, metrics: dict[str, Json]) -> bool:
    """Whether the run directory has the page and metrics of an attempt that wrote the same clips."""
    same = ("job", "table", "num_clips", "rejected", "encoder")
    place = storage.join(run, "metrics.json")
    try:
        earlier = parse_json(place, storage.read_bytes(place))
    except (storage.NotFoundError, storage.DamagedError):
        return False
    is_same = all(earlier.get(name) == metrics[name] for name in same)
    return is_same and storage.exists(storage.join(run, "report.html"))
