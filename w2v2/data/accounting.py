"""What became of everything that a job was given: used, rejected by kind, passed over by kind; the sums agree."""

import logging
from collections import Counter
from typing import Any

import numpy as np

from w2v2.data.manifest import Manifest
from w2v2.data.rejects import kinds_of
from w2v2.wording import counted

logger = logging.getLogger(__name__)


def account(found: Manifest) -> dict[str, Any]:
    """{"given", "used", "rejected": {kind: n}, "passed_over": {kind: n}, "tolerated": {what: n}}, also in the log.

    given = used + all rejected + all passed over. tolerated are of those used.
    """
    rejected = dict(Counter(kinds_of(found.rejects)).most_common())
    tolerated: Counter[str] = Counter()
    if "tolerated" in found.clips.column_names:
        tolerated.update(filter(None, found.clips["tolerated"].to_pylist()))
    numbers: dict[str, Any] = {
        "given": len(found.clips) + sum(rejected.values()) + sum(found.passed_over.values()),
        "used": len(found.clips),
        "rejected": rejected,
        "passed_over": dict(found.passed_over),
        "tolerated": _by_kind(tolerated),
    }
    logger.info(
        "clips: %d given = %d used + %s rejected + %s passed over%s",
        numbers["given"], numbers["used"], _words(rejected), _words(numbers["passed_over"]),
        f"; of those used, {_words(numbers['tolerated'])} tolerated" if tolerated else "",
    )  # fmt: skip
    return numbers


def data_summary(uri: str, found: Manifest) -> dict[str, Any]:
    """`data` of metrics.json: where the clips are, how many clips, rejects and speakers, and hours of audio."""
    return {
        "uri": uri,
        "num_clips": len(found.clips),
        "num_rejects": len(found.rejects),
        "num_speakers": len(found.clips["speaker"].unique()),
        "hours": float(np.asarray(found.clips["duration_s"]).sum()) / 3600,
    }


def _by_kind(tolerated: Counter[str]) -> dict[str, int]:
    """Numbers in a text, such as a peak, differ from clip to clip."""
    kinds: Counter[str] = Counter()
    for text, num in tolerated.items():
        for one in text.split("; "):
            kinds["samples on another scale" if one.startswith("samples up to") else one] += num
    return dict(kinds.most_common())


def _words(numbers: dict[str, int]) -> str:
    total = sum(numbers.values())
    kinds = ", ".join(counted(num, kind) for kind, num in numbers.items())
    return f"{total} ({kinds})" if total else "0"
