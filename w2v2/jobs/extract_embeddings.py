"""Write one vector per clip, layer and window into a table, exactly once.

    w2v2 extract-embeddings                                    # the built-in corpus into a DuckDB file
    w2v2 extract-embeddings --data.uri gs://bucket/audio --encoder.name facebook/wav2vec2-base-960h \
        --table bq://project.dataset.embeddings --run gs://bucket/runs/base-960h
    w2v2 extract-embeddings ... --plan true                    # clips, hours, bytes, rows, time; writes nothing
    ray job submit --working-dir . -- python jobs/extract_embeddings.py --data.uri gs://bucket/audio ...

Reads   a folder or gs:// prefix of audio files, or a CSV of clips; labels are not needed.
Writes  the table and, next to it, a table of rejects; <run>/config.yaml manifest.parquet rejects.parquet
        metrics.json report.html plots/ tables/ and, to resume from, parts/ done/ reject_parts/; of more than 100,000
        clips the manifest is several files, manifest/00000.parquet and so on
The same command continues a run that was stopped: vectors that were made are not made again, and clips
whose audio, weights and settings have not changed since the table got their rows are left alone.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from w2v2.cluster.workers import ray_is_at_hand
from w2v2.config import command_line, guide
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.guide import Guide
from w2v2.data import clip_shards, manifest, usable_clips
from w2v2.data.reject_limit import check_number_of_rejects
from w2v2.json_types import Json
from w2v2.models.architecture import read_num_layers, refuse_unusable
from w2v2.models.fold_encoders import refuse_fold_encoders
from w2v2.results.job_plans import plan_extraction
from w2v2.storage import files as storage
from w2v2.storage.lease import exclusive
from w2v2.tables import table as tables
from w2v2.tables.spool import spool_in

if TYPE_CHECKING:
    from w2v2.cluster.embedding import Embedder
    from w2v2.inference.extraction import ExtractionJob
    from w2v2.inference.shards import Shards

logger = logging.getLogger("w2v2.jobs.extract_embeddings")

GUIDE = Guide(
    command="extract-embeddings",
    summary="Write one vector per clip, layer and window into a table, exactly once.",
    flags={
        "data.uri": guide.DATA,
        "encoder.name": guide.ENCODER,
        "encoder.layers": "last, a number, [several], or all",
        "encoder.pooling": "mean, sum, max or mean+std of a clip's frames",
        "table": "bq://..., duckdb://..., or a folder of Parquet",
        "window_s": "a row for each window of so many seconds; 0 is the whole clip",
        "labels": "true takes label and speaker into the table",
        "plan": "true reports clips, hours, rows and time, and does nothing",
        "resources.gpus_per_worker": guide.GPUS,
        "run": guide.RUN,
    },
    examples=(
        "w2v2 extract-embeddings                            # the built-in corpus into a DuckDB file",
        "w2v2 extract-embeddings --data gs://bucket/audio --encoder facebook/wav2vec2-base --table bq://p.d.vectors",
    ),
)


@exclusive
def main(config: ExtractConfig) -> dict[str, Json]:
    """The run's numbers, after everything has been written; with --plan the numbers of the plan."""
    return extract(config, _start)


def _start(config: ExtractConfig, num_clips: int) -> "Embedder":
    from w2v2.cluster.embedding import Encoders

    return Encoders(config, num_clips)


def extract(config: ExtractConfig, start: "Callable[[ExtractConfig, int], Embedder]") -> dict[str, Json]:
    """The run's numbers as `main` returns them; start(config, number of clips) returns the object that makes the vectors."""
    started = time.monotonic()
    config = resolved(config)
    logger.info("run: %s, table: %s", config.run, config.table)
    refuse_unusable(config.encoder.name)
    refuse_fold_encoders(config.encoder.name)
    if num_layers := read_num_layers(config.encoder.name, asks_hub=not ray_is_at_hand()):
        config.encoder.layer_numbers(num_layers)  # finds early what would not work
    data = usable_clips.with_demo_made(config.data)
    with tempfile.TemporaryDirectory(prefix="w2v2-extract-") as folder:
        shards_read = clip_shards.read_shards(data, extra_columns=columns_to_read(config))
        from w2v2.inference.shards import (
            Shards,  # after the first message, as what follows: imports take seconds
        )

        with spool_in(Path(folder)) as spool:
            shards = Shards(Path(folder), shards_read, spool)
            if not config.plan:
                _check_rejects(config, shards.num_clips, shards.rejects)
            table = opened(config)
            encoders = start(config, shards.num_clips)
            job = encoders.inspect()
            if config.plan:
                return _plan(shards, encoders, job, table)
            assert table is not None  # but for a plan
            return _extract(shards, encoders, job, table, started=started)


def _extract(
    shards: "Shards", encoders: "Embedder", job: "ExtractionJob", table: tables.Table, *, started: float
) -> dict[str, Json]:
    from w2v2.cluster.embedding import embed_all
    from w2v2.inference.extraction import DONE
    from w2v2.inference.outcomes import join_done
    from w2v2.results.extract_embeddings import write_outcome

    config = job.config
    todo = shards.sort_out(job, table)
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    outcomes = shards.spool.table("outcomes", DONE)
    audio_s = embed_all(encoders, todo, shards, job, outcomes)
    finished = shards.finish(job, outcomes)
    join_done(config)
    _check_rejects(config, shards.num_given - len(finished.rejects), finished.rejects)
    return write_outcome(
        finished,
        job,
        table,
        lost=lambda: shards.lost_to_newer(job, table),
        num_made=todo.num_clips,
        audio_s=audio_s,
        started=started,
    )


def _plan(
    shards: "Shards", encoders: "Embedder", job: "ExtractionJob", table: tables.Table | None
) -> dict[str, Json]:
    from w2v2.inference.extraction_plan import estimate

    todo = shards.sort_out(job, table)
    num_encoders = encoders.num_encoders(todo.num_clips)
    measured = encoders.measure(todo, job) if todo.num_clips else None
    numbers = estimate(todo, shards.counts, len(shards.rejects), job, measured, num_encoders=num_encoders)
    extra_columns = columns_to_read(job.config)
    return plan_extraction(job.config, shards.manifest(extra_columns), numbers, extra_columns=extra_columns)


def columns_to_read(config: ExtractConfig) -> list[str]:
    """The extra columns to read from the data: the ones that clips do not have anyway."""
    return [name for name in config.extra_columns if name not in manifest.CLIPS.names]


def _check_rejects(config: ExtractConfig, num_clips: int, rejects: pa.Table) -> None:
    fraction = config.data.max_reject_fraction
    check_number_of_rejects(num_clips, rejects, max_reject_fraction=fraction, run=config.run)


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


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, ExtractConfig, args, guide=GUIDE)
