"""The driver of an extraction alone in its process, for `w2v2 benchmark scale`: audio and forward pass are stubs.

`python -m tests.cloud.scale_driver '{...}'` runs jobs/extract_embeddings.py's steps on the corpus of serve_corpus; vectors
are random numbers that another process makes and writes, parts and records as real workers write them. The argument has
run, table, warm_table, dim. Prints one line of JSON: what the driver took.
"""

import datetime
import json
import multiprocessing
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from w2v2.cluster.embedding import clips_per_part
from w2v2.config.data import DataConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.data.file_facts import checksums
from w2v2.data.recording_quality import QUALITY
from w2v2.data.rejects import record_fields
from w2v2.inference.extraction import ExtractionJob, run_id
from w2v2.inference.extraction_plan import Measured
from w2v2.inference.outcomes import write_chunk
from w2v2.inference.reading import EMBEDDED
from w2v2.inference.todo import Todo, clips_of
from w2v2.jobs import extract_embeddings
from w2v2.tables.spec import TIMESTAMP

CLIP_S = 3.0
NUM_WAITING = 3


class StubEncoders:
    """Takes portions as Ray Data does and gives them to a process that makes vectors of random numbers."""

    def __init__(self, config: ExtractConfig, pool: ProcessPoolExecutor, dim: int) -> None:
        self._config, self._pool, self._dim = config, pool, dim

    def inspect(self) -> ExtractionJob:
        return ExtractionJob(
            config=self._config, digest="weights", num_layers=2, dim=self._dim, min_samples=400, max_s=1e9,
            layers=("last",), run_id=run_id(self._config.run), code_version="scale",
        )  # fmt: skip

    def num_encoders(self, num_clips: int) -> int:
        return 1

    def measure(self, todo: Todo, job: ExtractionJob) -> Measured:
        raise NotImplementedError

    def embed(self, todo: Todo, job: ExtractionJob) -> Iterator[pa.Table]:
        waiting: deque[Future[list[pa.Table]]] = deque()
        per_part = clips_per_part(todo.num_clips)
        for portion in todo.portions(per_part):
            waiting.append(self._pool.submit(make_and_write, as_ipc(portion), job, self._dim, per_part))
            if len(waiting) > NUM_WAITING:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def as_ipc(rows: pa.Table) -> bytes:
    """The rows as Arrow's stream, as Ray sends them: a pickled slice would have all rows of its table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def make_and_write(portion: bytes, job: ExtractionJob, dim: int, per_part: int) -> list[pa.Table]:
    """The outcomes of a portion, after its parts are written; what a reader, an encoder and a writer do in real runs."""
    clips = clips_of(pa.ipc.open_stream(portion).read_all())
    return [
        write_chunk(embedded(clips.slice(at, per_part), dim), job) for at in range(0, len(clips), per_part)
    ]


def embedded(clips: pa.Table, dim: int) -> pa.Table:
    """The clips with all that reading and embedding adds."""
    num = len(clips)
    now = datetime.datetime.now(datetime.UTC)
    constants: dict[str, Any] = {
        "status": EMBEDDED,
        **record_fields(None),
        "tolerated": "",
        "sample_rate": 16_000,
    }
    constants |= {"duration_s": CLIP_S, "created_at": pa.scalar(now, TIMESTAMP)}
    for name, value in constants.items():
        clips = clips.append_column(name, pa.repeat(value, num))
    for name, kind in QUALITY.items():
        clips = clips.append_column(name, pa.nulls(num, kind))
    clips = clips.append_column("checksum", checksums(clips))
    numbers = np.random.default_rng(num).standard_normal(num * dim).astype(np.float32)
    vectors = pa.ListArray.from_arrays(pa.array(np.arange(num + 1) * dim, pa.int32()), pa.array(numbers))
    columns = [pa.repeat("last", num), pa.repeat(0.0, num), pa.repeat(CLIP_S, num), vectors]
    rows = pa.StructArray.from_arrays(columns, names=["layer", "start_s", "end_s", "embedding"])
    return clips.append_column(
        "vectors", pa.ListArray.from_arrays(pa.array(np.arange(num + 1), pa.int32()), rows)
    )


def memory_bytes(name: Literal["VmHWM", "RssAnon"]) -> int:
    """The most memory that this process has held since it began, or what it holds now without files that are mapped."""
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(name))


class AnonymousMemory:
    """The most memory without mapped files that this process holds in a block, looked up twenty times a second."""

    def __enter__(self) -> "AnonymousMemory":
        self.peak_bytes = memory_bytes("RssAnon")
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, memory_bytes("RssAnon"))


def main(argument: str) -> None:
    """Extract a few clips, so that all is imported, and then all of them, which is measured."""
    wanted = json.loads(argument)

    def extract(folder: str, run: str, table: str) -> dict[str, Any]:
        data = DataConfig(uri=f"gs://bench/{folder}", layout="files")
        config = ExtractConfig(run=run, table=table, data=data)
        return extract_embeddings.extract(config, lambda config, _: StubEncoders(config, pool, wanted["dim"]))

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        extract("few", f"{wanted['run']}-few", wanted["warm_table"])
        cpu_s, seconds = time.process_time(), time.perf_counter()
        before = memory_bytes("VmHWM")
        with AnonymousMemory() as anonymous:
            metrics = extract("audio", wanted["run"], wanted["table"])
        cpu_s, seconds = time.process_time() - cpu_s, time.perf_counter() - seconds
    took = {"cpu_s": cpu_s, "seconds": seconds, "bytes_before": before}
    took |= {"peak_bytes": memory_bytes("VmHWM"), "anonymous_bytes": anonymous.peak_bytes}
    print(
        json.dumps(took | {name: metrics[name] for name in ("num_clips", "written", "in_table", "num_made")})
    )


if __name__ == "__main__":
    main(sys.argv[1])
