"""The steps of an extraction, one after the other in this process or each on workers of its own: read, encode, write."""

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.errors import UserError
from w2v2.inference.extraction import ExtractionJob
from w2v2.inference.extraction_plan import Measured
from w2v2.inference.outcomes import write_chunk
from w2v2.inference.reading import CHECKSUM_IN_TABLE, EMBEDDED, read_clips
from w2v2.inference.todo import clips_of
from w2v2.models.imports import import_models
from w2v2.versions import W2V2

if TYPE_CHECKING:  # imports torch
    from w2v2.models.encoder import Encoder


def load(config: ExtractConfig) -> "tuple[Encoder, str]":
    """The encoder and the digest of its weights, loaded once per process."""
    from w2v2.inference.embedding import encoder_config
    from w2v2.models.pretrained import loaded_encoder

    return loaded_encoder(encoder_config(config.encoder), config.seed)


def inspect(config: ExtractConfig, run_id: str) -> ExtractionJob:
    """The job, with the facts about the encoder that are known only after loading it."""
    import_models()
    from w2v2.inference.embedding import layer_name
    from w2v2.models.lengths import longest_s
    from w2v2.models.pooling import pooled_dim

    encoder, digest = load(config)
    numbers = config.encoder.layer_numbers(encoder.num_layers)
    return ExtractionJob(
        config=config,
        digest=digest,
        num_layers=encoder.num_layers,
        dim=pooled_dim(encoder.dim, config.encoder.pooling),
        min_samples=encoder.min_samples,
        max_s=longest_s(encoder, window_s=config.window_s),
        layers=tuple(layer_name(number, encoder.num_layers) for number in numbers),
        run_id=run_id,
        code_version=W2V2,
    )


def read(clips: pa.Table, job: ExtractionJob) -> Iterator[pa.Table]:
    """Each clip with its waveform, one row at a time; clips may be in a file (see todo.py)."""
    config = job.config
    yield from read_clips(
        clips_of(clips),
        audio=config.audio,
        num_readers=config.data.num_readers,
        min_samples=job.min_samples,
        max_s=job.max_s,
    )


class EncoderStep:
    """An encoder that stays on its GPU or CPUs.

    Several threads may call it, each with its own clips. While a GPU computes one thread's clips, another thread
    prepares its clips and starts their computation, so that the GPU never waits.
    """

    def __init__(self, job: ExtractionJob, num_threads: int) -> None:
        import_models()
        import torch

        from w2v2.models.device import select_device

        torch.set_num_threads(num_threads)
        self._job, self._turn = job, threading.Lock()
        encoder, digest = load(job.config)
        self._encoder = encoder.to(select_device())  # before threads that would all move it
        if digest != job.digest:
            raise UserError(
                f"encoder.name {job.config.encoder.name!r} has weights {digest} on this machine and "
                f"{job.digest} on another: give all machines the same, e.g. a gs:// folder"
            )

    def __call__(self, clips: pa.Table) -> pa.Table:
        """The clips with their vectors instead of their waveforms."""
        from w2v2.inference.embedding import embed_clips

        return embed_clips(clips, self._encoder, self._job.config, turn=self._turn)


def write(clips: pa.Table, job: ExtractionJob) -> pa.Table:
    """The outcomes of the clips, after their vectors have been written."""
    return write_chunk(clips, job)


def measure(clips: pa.Table, job: ExtractionJob, num_threads: int) -> Measured:
    """The time and size of these clips; nothing is written."""
    encode = EncoderStep(job, num_threads)
    no_checksums = pa.array([""] * len(clips))
    clips = clips.set_column(clips.column_names.index(CHECKSUM_IN_TABLE), CHECKSUM_IN_TABLE, no_checksums)
    encode(pa.concat_tables(read(clips.slice(0, 1), job)))  # the first pass warms up
    started = time.monotonic()
    decoded = pa.concat_tables(read(clips, job))
    embedded = encode(decoded)
    good = embedded.filter(pc.equal(embedded["status"], EMBEDDED))
    return Measured(
        num_clips=len(clips),
        num_bytes=pc.sum(clips["size_bytes"]).as_py(),
        audio_s=pc.sum(good["duration_s"]).as_py() or 0.0,
        num_rows=pc.sum(pc.list_value_length(good["vectors"])).as_py() or 0,
        seconds=time.monotonic() - started,
    )
