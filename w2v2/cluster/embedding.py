"""Clips to parts of a table with Ray Data: read and decode, encode, write, all at once and in bounded memory."""

import functools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from w2v2.cluster import connection
from w2v2.cluster.worker_warnings import reporting
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.data.manifest import Manifest
from w2v2.errors import UserError
from w2v2.inference.extraction_plan import Measured
from w2v2.progress import Progress
from w2v2.versions import W2V2

if TYPE_CHECKING:  # imports torch, and Ray Data, which take seconds
    import ray.data

    from w2v2.inference.extraction import Job
    from w2v2.models.encoder import Encoder

logger = logging.getLogger(__name__)

# Half a thousand seconds of audio: what one encoder takes at a time.
BLOCK_BYTES = 32 * 2**20
# Of an encoder's CPUs, what Ray holds for it: with every CPU held by encoders nothing could be read or
# written, and Ray Data would wait for ever.
ENCODER_SHARE = 0.75
HELPER_CPUS = 0.125
MAX_PARTS = 4_000
NUM_MEASURED = 8


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many encoders work, and what each of them and each reader holds."""

    num_encoders: int
    encoder_cpus: float
    encoder_gpus: float
    num_threads: int
    reader_cpus: float
    num_readers: int


def shape_of(config: ExtractConfig) -> Shape:
    """The cluster divided: GPUs, or else CPUs, to encoders; the rest reads and writes."""
    workers = config.workers
    have = ray.cluster_resources()
    gpus, cpus = connection.gpus(workers.gpus_per_encoder), have.get("CPU", 1.0)
    num = workers.num_encoders or connection.slots(cpus=1e-9 if gpus else workers.cpus_per_encoder, gpus=gpus)
    if gpus:
        own = min(1.0, ENCODER_SHARE * cpus / num)
        return Shape(
            num_encoders=num,
            encoder_cpus=own,
            encoder_gpus=gpus,
            num_threads=1,
            reader_cpus=min(1.0, (cpus - own * num) / 2),
            num_readers=max(1, int(cpus - own * num)),
        )
    # Never more than the CPUs hold, whatever was asked for.
    num = min(num, max(1, int(cpus / workers.cpus_per_encoder)))
    own = ENCODER_SHARE * min(workers.cpus_per_encoder, cpus)
    return Shape(
        num_encoders=num,
        encoder_cpus=own,
        encoder_gpus=0.0,
        num_threads=max(1, int(workers.cpus_per_encoder)),
        reader_cpus=HELPER_CPUS,
        num_readers=max(1, int(cpus) // 2),
    )


# -- what the driver must know of the encoder


def _loaded(config: ExtractConfig) -> "tuple[Encoder, str]":
    """The encoder and the digest of its weights, loaded once per process."""
    from w2v2.inference.embedding import encoder_config
    from w2v2.models.pretrained import loaded_encoder

    return loaded_encoder(encoder_config(config.encoder), config.seed)


def inspect(config: ExtractConfig, run_id: str) -> "Job":
    """The job, as reported by a worker that loaded the encoder."""
    workers = config.workers
    task: Any = ray.remote(num_cpus=ENCODER_SHARE * min(1, workers.cpus_per_encoder), max_retries=3)(
        reporting
    )
    job = connection.get(task.remote(_inspect, config, run_id))
    if config.encoder.precision == "bf16" and not connection.gpus(1):
        raise UserError(
            "encoder.precision is bf16, but the cluster has no GPU: use float32, which is faster on a CPU"
        )
    logger.info(
        "encoder: %s, digest %s, layers %s of %d, %s, %d numbers a vector",
        config.encoder.name, job.digest, ", ".join(job.layers), job.num_layers, config.encoder.pooling, job.dim,
    )  # fmt: skip
    return job


def _inspect(config: ExtractConfig, run_id: str) -> "Job":
    from w2v2.inference.embedding import layer_name, layer_numbers
    from w2v2.inference.extraction import Job
    from w2v2.models.pooling import pooled_dim

    encoder, digest = _loaded(config)
    numbers = layer_numbers(config.encoder, encoder.num_layers)
    return Job(
        config=config,
        digest=digest,
        num_layers=encoder.num_layers,
        dim=pooled_dim(encoder.dim, config.encoder.pooling),
        min_samples=encoder.min_samples,
        layers=tuple(layer_name(number, encoder.num_layers) for number in numbers),
        run_id=run_id,
        code_version=W2V2,
    )


# -- the pipeline


def embed(clips: pa.Table, job: "Job") -> Iterator[pa.Table]:
    """What became of the clips (extraction.DONE), part by part, as the parts are written."""
    shape = shape_of(job.config)
    per_part = job.config.workers.clips_per_part or clips_per_part(len(clips))
    logger.info(
        "embeddings: %d encoders start, each on %s, which may take a minute; %d clips a part",
        shape.num_encoders,
        f"{shape.encoder_gpus:g} GPU" if shape.encoder_gpus else f"{shape.num_threads} CPU",
        per_part,
    )
    try:
        yield from _dataset(clips, job, shape, per_part).iter_batches(batch_size=None, batch_format="pyarrow")
    except Exception as error:
        raise connection.user_error(error) or error from error


def embed_all(clips: pa.Table, todo: pa.Table, found: Manifest, job: "Job") -> tuple[pa.Table, float]:
    """The clips with their outcomes, and seconds of audio embedded; ends early where too many are rejected.

    todo are those of the clips that are to be embedded.
    """
    from w2v2.inference import extraction

    if not len(todo):
        return clips, 0.0
    allowed = job.config.data.max_reject_fraction * (len(clips) + len(found.rejects))
    num_bad = len(found.rejects) + len(extraction.rejected(clips))
    outcomes, audio_s, num_done = [], 0.0, 0
    progress = Progress("embeddings", len(todo), unit="clips")
    started = time.monotonic()
    for part in embed(todo, job):
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


def clips_per_part(num_clips: int) -> int:
    """Clips to write at once: little is lost with a worker, and no table gets too many parts."""
    return max(64, -(-num_clips // MAX_PARTS))


def _dataset(clips: pa.Table, job: "Job", shape: Shape, per_part: int) -> "ray.data.Dataset":
    """The steps; each asks for CPUs of its own, so Ray Data does not fuse them into one process."""
    import ray.data

    _quiet()
    read: Any = functools.partial(_read, job=job)
    write: Any = functools.partial(_write, job=job)
    return (
        ray.data.from_arrow(_chunks(clips, shape))
        .map_batches(
            read,
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=shape.reader_cpus,
            compute=ray.data.TaskPoolStrategy(size=shape.num_readers),
        )
        .map_batches(
            _Encoder,
            fn_constructor_kwargs={"job": job, "num_threads": shape.num_threads},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=shape.encoder_cpus,
            num_gpus=shape.encoder_gpus,
            compute=ray.data.ActorPoolStrategy(size=shape.num_encoders),
        )
        .map_batches(
            write,
            batch_size=per_part,
            batch_format="pyarrow",
            num_cpus=min(HELPER_CPUS, shape.reader_cpus) / 2,
            # Each task at once is a process, and one writes what many encoders make.
            compute=ray.data.TaskPoolStrategy(size=shape.num_readers),
        )
    )


def _quiet() -> None:
    """Ray Data's own lines and bars off: ours say it. Blocks of BLOCK_BYTES."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _chunks(clips: pa.Table, shape: Shape) -> list[pa.Table]:
    """Clips that a reader takes at once; those of one file are adjacent."""
    clips = clips.sort_by([("uri", "ascending"), ("start_s", "ascending")]).combine_chunks()
    size = max(4, min(128, -(-len(clips) // (8 * shape.num_encoders))))
    return [clips.slice(at, size) for at in range(0, len(clips), size)]


def _read(clips: pa.Table, job: "Job") -> Iterator[pa.Table]:
    from w2v2.inference.reading import read_clips

    config = job.config
    yield from read_clips(
        clips, audio=config.audio, num_readers=config.data.num_readers, min_samples=job.min_samples
    )


class _Encoder:
    """An encoder that stays on its GPU or CPUs."""

    def __init__(self, job: "Job", num_threads: int) -> None:
        import torch

        torch.set_num_threads(num_threads)
        self._job = job
        self._encoder, digest = _loaded(job.config)
        if digest != job.digest:
            raise UserError(
                f"encoder.name {job.config.encoder.name!r} has weights {digest} on this machine and "
                f"{job.digest} on another: give all machines the same, e.g. a gs:// folder"
            )

    def __call__(self, clips: pa.Table) -> pa.Table:
        from w2v2.inference.embedding import embed_clips

        return embed_clips(clips, self._encoder, self._job.config)


def _write(clips: pa.Table, job: "Job") -> pa.Table:
    from w2v2.inference.extraction import write_chunk

    return write_chunk(clips, job)


# -- a measurement, for the plan


def measure(clips: pa.Table, job: "Job") -> Measured:
    """The time and size of a few of the clips, from the smallest to the largest file; nothing is written."""
    by_size = clips.sort_by("size_bytes")
    chosen = np.unique(np.linspace(0, len(clips) - 1, NUM_MEASURED).round().astype(int))
    shape = shape_of(job.config)
    task: Any = ray.remote(num_cpus=shape.encoder_cpus, num_gpus=shape.encoder_gpus)(reporting)
    return connection.get(task.remote(_measure, by_size.take(chosen), job, shape.num_threads))


def _measure(clips: pa.Table, job: "Job", num_threads: int) -> Measured:
    from w2v2.inference.reading import EMBEDDED

    encode = _Encoder(job, num_threads)
    known = pa.array([""] * len(clips))
    clips = clips.set_column(clips.column_names.index("known"), "known", known)
    encode(pa.concat_tables(_read(clips.slice(0, 1), job)))  # the first pass warms up
    started = time.monotonic()
    decoded = pa.concat_tables(_read(clips, job))
    embedded = encode(decoded)
    good = embedded.filter(pc.equal(embedded["status"], EMBEDDED))
    return Measured(
        num_clips=len(clips),
        num_bytes=pc.sum(clips["size_bytes"]).as_py(),
        audio_s=pc.sum(good["duration_s"]).as_py() or 0.0,
        num_rows=pc.sum(pc.list_value_length(good["vectors"])).as_py() or 0,
        seconds=time.monotonic() - started,
    )
