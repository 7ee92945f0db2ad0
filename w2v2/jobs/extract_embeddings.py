"""Write one vector per clip, layer and window into a table, exactly once.

    w2v2 extract-embeddings                                    # the built-in corpus into a DuckDB file
    w2v2 extract-embeddings --data.uri gs://bucket/audio --encoder.name facebook/wav2vec2-base-960h \
        --table bq://project.dataset.embeddings --run gs://bucket/runs/base-960h
    w2v2 extract-embeddings ... --plan true                    # clips, hours, bytes, rows, time; writes nothing
    ray job submit --working-dir . -- python jobs/extract_embeddings.py --data.uri gs://bucket/audio ...

Reads   a folder or gs:// prefix of audio files, or a CSV of clips; labels are not needed.
Writes  the table and, next to it, a table of rejects; <run>/config.yaml manifest.parquet rejects.parquet
        metrics.json report.html plots/ tables/ and, to resume from, parts/ done/ reject_parts/
The same command continues a run that was stopped: vectors that were made are not made again, and clips
whose audio, weights and settings have not changed since the table got their rows are left alone.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from w2v2.cluster.workers import start_workers
from w2v2.config import command_line, guide
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.guide import Guide
from w2v2.data import file_facts, manifest, usable_clips
from w2v2.models.fold_encoders import refuse_fold_encoders
from w2v2.models.pretrained_name import check_folder
from w2v2.results.job_plans import plan_extraction
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive
from w2v2.tables import table as tables

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
def main(config: ExtractConfig) -> dict[str, Any]:
    """The run's numbers, after all is written; with --plan those of what would be done."""
    started = time.monotonic()
    config = resolved(config)
    logger.info("run: %s, table: %s", config.run, config.table)
    data = usable_clips.with_demo_made(config.data)
    further = [name for name in config.carried if name not in manifest.CLIPS.names]
    corpus = file_facts.without_missing_files(manifest.read(data, task="none", carried=further), data)
    check_folder(config.encoder.name)
    refuse_fold_encoders(config.encoder.name)
    if not config.plan:
        manifest.check_rejects(corpus, max_reject_fraction=config.data.max_reject_fraction, run=config.run)

    from w2v2.cluster import embedding  # after the first messages: these take seconds to import
    from w2v2.inference import extraction
    from w2v2.inference.extraction_plan import estimate
    from w2v2.results.extract_embeddings import write_outcome

    table = opened(config)
    num_processes = config.resources.num_workers or 1
    workers = start_workers(local=config.local, num_clips=len(corpus.clips), num_processes=num_processes)
    job = embedding.inspect(config, workers)
    corpus = file_facts.add_file_facts(corpus, data)
    clips = extraction.sort_out(corpus.clips, job, done=extraction.read_done(config), table=table)
    todo = extraction.to_do(clips, job)
    if config.plan:
        measured = embedding.measure(todo, job, workers) if len(todo) else None
        num_encoders = embedding.shape_of(config, workers, len(todo)).num_encoders
        numbers = estimate(todo, clips, corpus, job, measured, num_encoders=num_encoders)
        return plan_extraction(config, corpus, numbers, carried=further)
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    num_made = len(todo)
    clips, audio_s = embedding.embed_all(clips, todo, corpus, job, workers)
    corpus = manifest.with_rejects(replace(corpus, clips=clips), extraction.rejected(clips))
    run_directory.write_table(config.run, "manifest", clips)
    manifest.check_rejects(corpus, max_reject_fraction=config.data.max_reject_fraction, run=config.run)
    assert table is not None  # but for a plan
    return write_outcome(clips, corpus, job, table, num_made=num_made, audio_s=audio_s, started=started)


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
