"""The plan of an extraction: its work and time, estimated from a few clips."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from w2v2.inference.extraction import ExtractionJob
from w2v2.inference.todo import Todo
from w2v2.json_types import Json
from w2v2.progress import clock
from w2v2.wording import counted

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
    todo: Todo,
    counts: Mapping[str, int],
    num_rejected: int,
    job: ExtractionJob,
    measured: Measured | None,
    *,
    num_encoders: int,
) -> dict[str, Json]:
    """The work of an extraction, also logged: numbers of clips, bytes, hours of audio, rows and seconds.

    counts come from extraction.counts over all clips; num_rejected clips were rejected before them. measured is the
    measurement of a few of the clips to embed, None if there are none.
    """
    plan: dict[str, Any] = {"num_clips": todo.num_clips, "num_bytes": todo.num_bytes, **counts}
    plan |= {
        "rejected": plan["rejected"] + num_rejected,
        "audio_hours": 0.0,
        "num_rows": 0,
        "seconds": 0.0,
    }
    if measured is not None:
        scale = todo.num_bytes / max(1, measured.num_bytes)
        plan["audio_hours"] = measured.audio_s * scale / 3600
        plan["num_rows"] = (
            round(measured.num_rows * scale) if job.config.window_s else todo.num_clips * len(job.layers)
        )
        plan["seconds"] = measured.seconds * scale / num_encoders
    logger.info(
        "plan: %s to do, %.3g GB to read, about %.2f hours of audio, %s, %s",
        counted(todo.num_clips, "clips"), todo.num_bytes / 1e9, plan["audio_hours"], counted(plan["num_rows"], "rows"), clock(plan["seconds"]),
    )  # fmt: skip
    logger.info(
        "plan: %s already in the table, %d made and waiting to be written, %d rejected",
        counted(plan["in_table"], "clips"), plan["embedded"], plan["rejected"],
    )  # fmt: skip
    return plan
