"""An extraction on Ray Data: readers, encoders that stay on their GPUs, writers, all at once and in bounded memory."""

import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data

from w2v2.cluster import capacity, connection
from w2v2.cluster.embedding import BLOCK_BYTES, Allocation
from w2v2.cluster.worker_warnings import collected, reporting, show
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.inference import extraction_steps
from w2v2.inference.extraction import ExtractionJob

# The CPUs that Ray holds for an encoder: with every CPU held by encoders nothing could be read or
# written, and Ray Data would wait for ever.
ENCODER_SHARE = 0.75
HELPER_CPUS = 0.125
CLIPS_PER_MACHINE = 256
"""A machine takes minutes to start; with fewer clips than this for each it would come too late."""

WARNINGS = "warnings"
"""The column that carries warnings of workers to the driver: a list of texts in every row, mostly empty."""


def allocation_of(config: ExtractConfig, num_clips: int) -> Allocation:
    """The cluster divided, as large as it may grow for so many clips: GPUs, or else CPUs, to encoders; the rest reads.

    All encoders are asked for at once. Ray starts machines for encoders without room, which begin when these machines
    come.
    """
    workers = config.resources
    most = capacity.largest()
    gpus, cpus = connection.gpus(workers.gpus_per_worker), most.get("CPU", 1.0)
    if gpus:
        fitting = workers.num_workers or connection.slots(cpus=1e-9, gpus=gpus)
        encoder_cpus = min(1.0, ENCODER_SHARE * cpus / fitting)
        num = _num_encoders(workers.num_workers, fitting, num_clips, encoder_cpus, gpus)
        left = cpus - encoder_cpus * fitting
        reader_cpus, num_readers = min(1.0, left / 2), max(1, int(left * num / fitting))
    else:
        # Never more than fit on the CPUs, whatever the settings are.
        fitting = connection.slots(cpus=min(workers.cpus_per_worker, cpus), gpus=0)
        encoder_cpus = ENCODER_SHARE * min(workers.cpus_per_worker, cpus)
        num = _num_encoders(workers.num_workers, fitting, num_clips, encoder_cpus, gpus)
        reader_cpus, num_readers = HELPER_CPUS, max(1, int(cpus * num / fitting) // 2)
    return Allocation(
        num_encoders=num,
        encoder_cpus=encoder_cpus,
        encoder_gpus=gpus,
        num_threads=1 if gpus else max(1, int(workers.cpus_per_worker)),
        reader_cpus=reader_cpus,
        num_readers=num_readers,
    )


def _num_encoders(wanted: int, fitting: int, num_clips: int, cpus: float, gpus: float) -> int:
    """The wanted number of encoders, if they fit; 0 is as many as fit now, and more with enough clips for machines that must be started."""
    if wanted:
        return min(wanted, fitting)
    now = capacity.num_fitting(capacity.present(), cpus=cpus, gpus=gpus)
    return max(1, min(fitting, max(now, -(-num_clips // CLIPS_PER_MACHINE))))


def inspect(config: ExtractConfig, run_id: str) -> ExtractionJob:
    """The job, as reported by a worker that loaded the encoder, in the environment in which Ray Data finds it again."""
    cpus = ENCODER_SHARE * min(1, config.resources.cpus_per_worker)
    task: Any = ray.remote(num_cpus=cpus, max_retries=3)(reporting)
    return connection.get(task.remote(extraction_steps.inspect, config, run_id))


def embed(
    portions: Sequence[pa.Table], job: ExtractionJob, allocation: Allocation, per_part: int
) -> Iterator[pa.Table]:
    """The outcomes of the clips (extraction.DONE), part by part, as the parts are written."""
    dataset = _dataset(portions, job, allocation, per_part)
    try:
        parts: Any = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
        for part in parts:
            for texts in part[WARNINGS].to_pylist():
                show(texts)
            yield part.drop_columns([WARNINGS])
    except Exception as error:
        raise connection.user_error(error) or error from error


def _dataset(
    portions: Sequence[pa.Table], job: ExtractionJob, allocation: Allocation, per_part: int
) -> ray.data.Dataset:
    """The steps; each asks for CPUs of its own, so Ray Data does not fuse them into one process."""
    _quiet()
    read: Any = functools.partial(_read, job=job)
    write: Any = functools.partial(_write, job=job)
    return (
        ray.data.from_arrow(list(portions))
        .map_batches(
            read,
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=allocation.reader_cpus,
            compute=ray.data.TaskPoolStrategy(size=allocation.num_readers),
        )
        .map_batches(
            _Encoder,
            fn_constructor_kwargs={"job": job, "num_threads": allocation.num_threads},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=allocation.encoder_cpus,
            num_gpus=allocation.encoder_gpus,
            compute=ray.data.ActorPoolStrategy(
                size=allocation.num_encoders,
                max_tasks_in_flight_per_actor=allocation.blocks_at_once + 1,  # one is sent meanwhile
                max_concurrent_calls_per_actor=allocation.blocks_at_once,
                enable_true_multi_threading=allocation.blocks_at_once > 1,
            ),
        )
        .map_batches(
            write,
            batch_size=per_part,
            batch_format="pyarrow",
            num_cpus=min(HELPER_CPUS, allocation.reader_cpus) / 2,
            # Each concurrent task is a process, and one process can write the vectors of many encoders.
            compute=ray.data.TaskPoolStrategy(size=allocation.num_readers),
        )
    )


def _quiet() -> None:
    """Turn off Ray Data's log lines and bars, which ours replace, and set blocks of BLOCK_BYTES."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _with_warnings(clips: pa.Table, texts: list[str]) -> pa.Table:
    """The rows with these texts added to the warnings of the first row."""
    before = (
        clips[WARNINGS].to_pylist() if WARNINGS in clips.column_names else [[] for _ in range(len(clips))]
    )
    if before:
        before[0] = [*before[0], *texts]
    column = pa.array(before, pa.list_(pa.string()))
    clips = clips.drop_columns([WARNINGS]) if WARNINGS in clips.column_names else clips
    return clips.append_column(WARNINGS, column)


def _read(clips: pa.Table, job: ExtractionJob) -> Iterator[pa.Table]:
    with collected() as texts:
        for row in extraction_steps.read(clips, job):
            yield _with_warnings(row, list(texts))
            texts.clear()


class _Encoder:
    """The step of the encoder, on an actor of Ray Data, which may call it from several threads at once."""

    def __init__(self, job: ExtractionJob, num_threads: int) -> None:
        with collected() as texts:
            self._step = extraction_steps.EncoderStep(job, num_threads)
        self._texts = list(texts)

    def __call__(self, clips: pa.Table) -> pa.Table:
        with collected() as texts:
            embedded = self._step(clips)
        of_start, self._texts = self._texts, []
        return _with_warnings(embedded, [*of_start, *texts])


def _write(clips: pa.Table, job: ExtractionJob) -> pa.Table:
    with collected() as texts:
        done = extraction_steps.write(clips, job)
    brought = [text for texts_of_clip in clips[WARNINGS].to_pylist() for text in texts_of_clip]
    return _with_warnings(done, [*brought, *texts])
