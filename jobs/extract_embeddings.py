#!/usr/bin/env python
"""Write one vector per clip, layer and window into a table, exactly once.

    jobs/extract_embeddings.py                                    # the built-in corpus into a DuckDB file
    jobs/extract_embeddings.py --data.uri gs://bucket/audio --encoder.name facebook/wav2vec2-base-960h \
        --table bq://project.dataset.embeddings --run gs://bucket/runs/base-960h
    jobs/extract_embeddings.py ... --plan true                    # clips, hours, bytes, rows, time; writes nothing
    ray job submit --working-dir . -- python jobs/extract_embeddings.py --data.uri gs://bucket/audio ...

Reads   a folder or gs:// prefix of audio files, or a CSV of clips; labels are not needed.
Writes  the table and, beside it, a table of rejects; <run>/config.yaml manifest.parquet rejects.parquet
        metrics.json report.html plots/ tables/ and, to go on from, parts/ done/ reject_parts/
The same command continues a run that was stopped: vectors that were made are not made again, and clips
whose audio, weights and settings have not changed since the table got their rows are left alone.
"""

import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.cluster import connection
from w2v2.config import command_line
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.data import manifest, usable_clips
from w2v2.errors import ResumableError
from w2v2.machine import describe_run
from w2v2.progress import Progress, clock
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive
from w2v2.storage.seals import parse_json
from w2v2.tables import table as tables
from w2v2.tables.parts import DamagedPartError
from w2v2.tables.spec import Commit, rejects_spec
from w2v2.versions import library_versions

logger = logging.getLogger("w2v2.jobs.extract_embeddings")


@exclusive
def main(config: ExtractConfig) -> dict[str, Any]:
    """The run's numbers, after all is written; with --plan those of what would be done."""
    started = time.monotonic()
    config = resolved(config)
    logger.info("run: %s, table: %s", config.run, config.table)
    data = usable_clips.with_demo_made(config.data)
    further = [name for name in config.carried if name not in manifest.CLIPS.names]
    found = manifest.read(data, task="none", carried=further)

    from w2v2.cluster import embedding  # after the first messages: these take seconds to import
    from w2v2.data import file_facts
    from w2v2.inference import extraction

    table = opened(config)
    connection.start()
    job = embedding.inspect(config, extraction.run_id(config.run))
    found = file_facts.add_file_facts(found, data)
    clips = extraction.sort_out(found.clips, job, done=extraction.read_done(config), table=table)
    todo = extraction.to_do(clips, job)
    if config.plan:
        return plan(todo, clips, found, job)
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    num_made = len(todo)
    clips, audio_s = embedded(clips, todo, found, job)
    found = manifest.with_rejects(
        manifest.Manifest(clips=clips, rejects=found.rejects), extraction.rejected(clips)
    )
    run_directory.write_table(config.run, "manifest", clips)
    run_directory.write_table(config.run, "rejects", found.rejects)
    manifest.check_rejects(found, max_reject_fraction=config.data.max_reject_fraction)
    return commit(clips, found, job, table, num_made=num_made, audio_s=audio_s, started=started)


def resolved(config: ExtractConfig) -> ExtractConfig:
    """The config with places made absolute and the table named."""
    encoder = config.encoder
    if Path(encoder.name).expanduser().is_dir():
        encoder = replace(encoder, name=storage.expand(encoder.name))
    run = storage.expand(config.run)
    file = storage.join(run, "embeddings")
    default = file if storage.is_remote(run) else f"duckdb://{file}.db?table=embeddings"
    return replace(
        config,
        run=run,
        data=usable_clips.with_absolute_uri(config.data),
        encoder=encoder,
        table=config.table or default,
    )


def opened(config: ExtractConfig) -> tables.Table | None:
    """The table, made where it is missing; but nothing is made for a plan."""
    from w2v2.inference import extraction

    spec = extraction.spec_of(config)
    if config.plan and not tables.exists(config.table):
        return None
    return tables.open_table(config.table, spec)


def plan(todo: pa.Table, clips: pa.Table, found: manifest.Manifest, job: Any) -> dict[str, Any]:
    """What would be done, told and returned; times are estimates from a few clips."""
    from w2v2.cluster import embedding
    from w2v2.inference import extraction

    counts = extraction.counts(clips)
    num_bytes = pc.sum(todo["size_bytes"]).as_py() or 0
    told: dict[str, Any] = {"num_clips": len(todo), "num_bytes": num_bytes, **counts}
    told |= {
        "rejected": told["rejected"] + len(found.rejects),
        "audio_hours": 0.0,
        "num_rows": 0,
        "seconds": 0.0,
    }
    if len(todo):
        measured = embedding.measure(todo, job)
        scale = num_bytes / max(1, measured.num_bytes)
        told["audio_hours"] = measured.audio_s * scale / 3600
        told["num_rows"] = (
            round(measured.num_rows * scale) if job.config.window_s else len(todo) * len(job.layers)
        )
        told["seconds"] = measured.seconds * scale / embedding.shape_of(job.config).num_encoders
    logger.info(
        "plan: %d clips to do, %.3g GB to read, about %.2f hours of audio, %d rows, %s; nothing was written",
        len(todo), num_bytes / 1e9, told["audio_hours"], told["num_rows"], clock(told["seconds"]),
    )  # fmt: skip
    logger.info(
        "plan: %d clips are already there, %d are made and wait to be written, %d are rejected",
        told["there"], told["embedded"], told["rejected"],
    )  # fmt: skip
    return told


def embedded(clips: pa.Table, todo: pa.Table, found: manifest.Manifest, job: Any) -> tuple[pa.Table, float]:
    """The clips with their outcomes, and seconds of audio embedded; ends early where too many are rejected."""
    from w2v2.cluster import embedding
    from w2v2.inference import extraction

    if not len(todo):
        return clips, 0.0
    allowed = job.config.data.max_reject_fraction * (len(clips) + len(found.rejects))
    num_bad = len(found.rejects) + len(extraction.rejected(clips))
    outcomes, audio_s, num_done = [], 0.0, 0
    progress = Progress("embeddings", len(todo), unit="clips")
    started = time.monotonic()
    for part in embedding.embed(todo, job):
        outcomes.append(part)
        num_done += len(part)
        num_bad += len(extraction.rejected(part))
        audio_s += pc.sum(part["duration_s"]).as_py() or 0.0
        progress(num_done, note=f"{audio_s / 3600 / (time.monotonic() - started):.3g} hours of audio/s")
        if num_bad > allowed:
            logger.info("too many clips are rejected: stopping early")
            break
    done = pa.concat_tables(outcomes)
    return extraction.with_outcomes(clips, done), audio_s


def taken_in(clips: pa.Table, job: Any, table: Any, parts: list[str]) -> Commit:
    """What the table did with the parts; UserError where the table has not got the vectors of every clip then."""
    from w2v2.inference import extraction

    try:
        taken: Commit = table.commit(parts)
    except DamagedPartError as error:
        storage.delete(error.uri)
        raise ResumableError(
            f"part {error.uri} was damaged and is deleted: run the same command again, which embeds its clips again"
        ) from error
    lost = extraction.lost_to_newer(clips, job, table) if taken.stale else 0
    if lost:
        raise ResumableError(
            f"{job.config.table} has got newer rows of {lost} of these clips from another run, of other settings or "
            "weights: run the same command again, which embeds them again, or give one of the two a table of its own"
        )
    return taken


def commit(
    clips: pa.Table,
    found: manifest.Manifest,
    job: Any,
    table: Any,
    *,
    num_made: int,
    audio_s: float,
    started: float,
) -> dict[str, Any]:
    """The run's numbers, after the parts are in the table, the rejects in theirs and the page is written."""
    from w2v2.inference import extraction
    from w2v2.inference import extraction as reject_rows
    from w2v2.reports.extraction_page import write_extraction_report

    config = job.config
    counts = extraction.counts(clips)
    parts = extraction.parts_of(clips, config.run)
    logger.info("table: taking %d parts into %s", len(parts), config.table)
    taken = taken_in(clips, job, table, parts)
    rejects = tables.open_table(reject_rows.rejects_table(config.table), rejects_spec())
    reject_rows.commit_rejects(rejects, found.rejects, job)
    seconds = time.monotonic() - started
    metrics = {
        "job": "extract_embeddings",
        "table": config.table,
        "num_clips": counts["embedded"] + counts["there"] + len(found.rejects),
        "written": counts["embedded"],
        "there": counts["there"],
        "rejected": len(found.rejects),
        "num_made": num_made,
        "rows": {"inserted": taken.inserted, "replaced": taken.replaced, "unchanged": taken.unchanged, "stale": taken.stale, "removed": taken.removed},
        "audio_hours": audio_s / 3600,
        "seconds": seconds,
        "encoder": {"name": config.encoder.name, "digest": job.digest, "layers": list(job.layers), "pooling": config.encoder.pooling, "dim": job.dim},
        "made": describe_run(),
        "versions": library_versions("torch", "transformers", "ray"),
    }  # fmt: skip
    if num_made or taken.pending or not reported(config.run, metrics):
        run_directory.write_json(config.run, "metrics", metrics)
        logger.info("page: %s", write_extraction_report(config.run))
    else:
        logger.info("nothing was to be done: metrics.json and the page stay as they were")
    logger.info(
        "%d clips: %d written, %d already there, %d rejected; %s",
        metrics["num_clips"], metrics["written"], metrics["there"], metrics["rejected"], config.table,
    )  # fmt: skip
    return metrics


def reported(run: str, metrics: dict[str, Any]) -> bool:
    """Whether the run directory has the page and metrics of an attempt that wrote these very clips."""
    same = ("job", "table", "num_clips", "rejected", "encoder")
    place = storage.join(run, "metrics.json")
    try:
        earlier = parse_json(place, storage.read_bytes(place))
    except (storage.NotFoundError, storage.DamagedError):
        return False
    is_same = all(earlier.get(name) == metrics[name] for name in same)
    return is_same and storage.exists(storage.join(run, "report.html"))


if __name__ == "__main__":
    sys.exit(command_line.run_job(main, ExtractConfig))
