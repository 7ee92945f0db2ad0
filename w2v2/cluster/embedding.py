"""Clips to parts of a table: read and decode, encode, write; in this process, or all at once on Ray's workers."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.cluster.workers import ThisProcess, Workers, num_threads, start_workers
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.errors import UserError
from w2v2.inference import extraction, extraction_steps
from w2v2.inference.extraction import ExtractionJob
from w2v2.inference.extraction_plan import Measured
from w2v2.inference.shards import Shards
from w2v2.inference.todo import Todo
from w2v2.progress import Progress
from w2v2.tables.spool import SpooledTable

logger = logging.getLogger(__name__)

BLOCK_BYTES = 32 * 2**20
"""Bytes of a block, which one encoder takes at a time: about 500 s of audio."""
BLOCKS_PER_GPU = 3
"""Blocks at a time in an encoder: one is prepared, the GPU computes one, and the vectors of one become rows."""
MAX_PARTS = 1_000
"""The most parts of one attempt: each takes several requests, for the part and for its record."""
MANY_PARTS, MANY_CLIPS = 200, 500
"""Parts beyond the first number are made only where a part would have more clips than the second: each takes 7 ms of
the driver."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The number of encoders, and the resources of each of them and of each reader."""

    num_encoders: int
    encoder_cpus: float
    encoder_gpus: float
    num_threads: int
    reader_cpus: float
    num_readers: int

    @property
    def blocks_at_once(self) -> int:
        """Blocks of clips that an encoder has at work: on a GPU others are prepared while one is computed."""
        return BLOCKS_PER_GPU if self.encoder_gpus else 1


def allocation_of(config: ExtractConfig, workers: Workers, num_clips: int) -> Allocation:
    """The cluster, or this process, divided among encoders and readers of so many clips."""
    if not isinstance(workers, ThisProcess):
        from w2v2.cluster import embedding_on_ray

        return embedding_on_ray.allocation_of(config, num_clips)
    gpus, cpus = workers.gpus(config.resources.gpus_per_worker), config.resources.cpus_per_worker
    return Allocation(
        num_encoders=1,
        encoder_cpus=cpus,
        encoder_gpus=gpus,
        num_threads=1 if gpus else num_threads(workers, cpus),
        reader_cpus=cpus,
        num_readers=1,
    )


def inspect(config: ExtractConfig, workers: Workers) -> ExtractionJob:
    """The job, with facts about the encoder from a worker that loaded it. Raises UserError where it cannot be loaded."""
    run_id = extraction.run_id(config.run)
    if isinstance(workers, ThisProcess):
        job = extraction_steps.inspect(config, run_id)
    else:
        from w2v2.cluster import embedding_on_ray

        job = embedding_on_ray.inspect(config, run_id)
    if config.resources.precision == "bf16" and not workers.gpus(1):
        raise UserError(
            "resources.precision is bf16, but the cluster has no GPU: use float32, which is faster on a CPU"
        )
    logger.info(
        "encoder: %s, digest %s, layers %s of %d, %s, %d numbers a vector",
        config.encoder.name, job.digest, ", ".join(job.layers), job.num_layers, config.encoder.pooling, job.dim,
    )  # fmt: skip
    return job


class Encoders:
    """The encoders of an extraction, in this process or on Ray's workers."""

    def __init__(self, config: ExtractConfig, num_clips: int) -> None:
        num_processes = config.resources.num_workers or 1
        self._config = config
        self._workers = start_workers(local=config.local, num_clips=num_clips, num_processes=num_processes)

    def inspect(self) -> ExtractionJob:
        """The job, with facts about the encoder; see inspect."""
        return inspect(self._config, self._workers)

    def num_encoders(self, num_clips: int) -> int:
        """How many encoders there are for so many clips."""
        return allocation_of(self._config, self._workers, num_clips).num_encoders

    def measure(self, todo: Todo, job: ExtractionJob) -> Measured:
        """The time and size of a few of the clips, from the smallest to the largest file; nothing is written."""
        allocation = allocation_of(self._config, self._workers, todo.num_clips)
        task = self._workers.task(
            extraction_steps.measure, cpus=allocation.encoder_cpus, gpus=allocation.encoder_gpus
        )
        measured: Measured = self._workers.get(task.remote(todo.sample, job, allocation.num_threads))
        return measured

    def embed(self, todo: Todo, job: ExtractionJob) -> Iterator[pa.Table]:
        """The outcomes of the clips (extraction.DONE), part by part, as the parts are written."""
        allocation = allocation_of(self._config, self._workers, todo.num_clips)
        per_part = self._config.resources.clips_per_part or clips_per_part(todo.num_clips)
        logger.info(
            "embeddings: %d encoders start, each on %s, which may take a minute; %d clips a part",
            allocation.num_encoders,
            f"{allocation.encoder_gpus:g} GPU"
            if allocation.encoder_gpus
            else f"{allocation.num_threads} CPU",
            per_part,
        )
        portions = todo.portions(max(4, min(128, -(-todo.num_clips // (8 * allocation.num_encoders)))))
        if isinstance(self._workers, ThisProcess):
            yield from _embed_here(portions, job, allocation, per_part)
        else:
            from w2v2.cluster import embedding_on_ray

            yield from embedding_on_ray.embed(portions, job, allocation, per_part)


@runtime_checkable
class Embedder(Protocol):
    """An object that makes the vectors of clips: Encoders, or a stub."""

    def inspect(self) -> ExtractionJob:
        """The job, with facts about the encoder."""
        ...

    def num_encoders(self, num_clips: int) -> int:
        """How many encoders there are for so many clips."""
        ...

    def measure(self, todo: Todo, job: ExtractionJob) -> Measured:
        """The time and size of a few of the clips."""
        ...

    def embed(self, todo: Todo, job: ExtractionJob) -> Iterator[pa.Table]:
        """The outcomes of the clips (extraction.DONE), part by part, as the parts are written."""
        ...


def embed_all(
    encoders: Embedder, todo: Todo, shards: Shards, job: ExtractionJob, outcomes: SpooledTable
) -> float:
    """Seconds of audio embedded; the outcomes are added to `outcomes`. Ends early where too many clips are rejected."""
    if not todo.num_clips:
        return 0.0
    num_bad = shards.counts["rejected"] + len(shards.rejects)
    allowed = job.config.data.max_reject_fraction * shards.num_given
    audio_s, num_done = 0.0, 0
    progress = Progress("embeddings", todo.num_clips, unit="clips")
    started = time.monotonic()
    for part in encoders.embed(todo, job):
        outcomes.add(part)
        num_done += len(part)
        num_bad += len(extraction.rejected(part))
        audio_s += pc.sum(part["duration_s"]).as_py() or 0.0
        progress(num_done, note=f"{audio_s / 3600 / (time.monotonic() - started):.3g} hours of audio/s")
        if num_bad > allowed:
            logger.info("too many clips are rejected: stopping early")
            return audio_s
    todo.delete_files()
    return audio_s


def _embed_here(
    portions: Sequence[pa.Table], job: ExtractionJob, allocation: Allocation, per_part: int
) -> Iterator[pa.Table]:
    encode = extraction_steps.EncoderStep(job, allocation.num_threads)
    from w2v2.models.device import in_threads  # imports torch, as the encoder has

    waiting: list[pa.Table] = []
    blocks = (block for portion in portions for block in _blocks(extraction_steps.read(portion, job)))
    for encoded in in_threads(encode, blocks, num_threads=allocation.blocks_at_once):
        embedded = pa.concat_tables([*waiting, encoded])
        while len(embedded) >= per_part:
            yield extraction_steps.write(embedded.slice(0, per_part), job)
            embedded = embedded.slice(per_part)
        waiting = [embedded]
    if waiting and len(waiting[0]):
        yield extraction_steps.write(waiting[0], job)


def _blocks(rows: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows together, up to BLOCK_BYTES, as Ray Data gives them to an encoder."""
    block: list[pa.Table] = []
    for row in rows:
        block.append(row)
        if sum(part.nbytes for part in block) > BLOCK_BYTES:
            yield pa.concat_tables(block)
            block = []
    if block:
        yield pa.concat_tables(block)


def clips_per_part(num_clips: int) -> int:
    """Clips to write at once: few, so that little is lost with a worker, but enough that no table gets too many parts."""
    return max(64, min(MANY_CLIPS, num_clips // MANY_PARTS), -(-num_clips // MAX_PARTS))
