"""The plan of an extraction: its work and time, estimated from a few clips."""

import logging
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.data.manifest import Manifest
from w2v2.inference.extraction import Job, counts
from w2v2.progress import clock

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A few clips, read and embedded by one worker."""

    num_clips: int
    num_bytes: int
    audio_s: float
    num_rows: int
    seconds: float


def estimate(
    todo: pa.Table,
    clips: pa.Table,
    found: Manifest,
    job: Job,
    measured: Measured | None,
    *,
    num_encoders: int,
) -> dict[str, Any]:
    """The work of an extraction, also logged: numbers of clips, bytes, hours of audio, rows and seconds.

    todo are the clips to embed, of all `clips`; measured is of a few of them, None if there are none.
    """
    num_bytes = pc.sum(todo["size_bytes"]).as_py() or 0
    plan: dict[str, Any] = {"num_clips": len(todo), "num_bytes": num_bytes, **counts(clips)}
    plan |= {
        "rejected": plan["rejected"] + len(found.rejects),
        "audio_hours": 0.0,
        "num_rows": 0,
        "seconds": 0.0,
    }
    if measured is not None:
        scale = num_bytes / max(1, measured.num_bytes)
        plan["audio_hours"] = measured.audio_s * scale / 3600
        plan["num_rows"] = (
            round(measured.num_rows * scale) if job.config.window_s else len(todo) * len(job.layers)
        )
        plan["seconds"] = measured.seconds * scale / num_encoders
    logger.info(
        "plan: %d clips to do, %.3g GB to read, about %.2f hours of audio, %d rows, %s",
        len(todo), num_bytes / 1e9, plan["audio_hours"], plan["num_rows"], clock(plan["seconds"]),
    )  # fmt: skip
    logger.info(
        "plan: %d clips are already there, %d are made and wait to be written, %d are rejected",
        plan["there"], plan["embedded"], plan["rejected"],
    )  # fmt: skip
    return plan
