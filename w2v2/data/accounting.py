"""Accounts of a job's input: clips used, rejected by kind and passed over by kind, whose sum is all that was given."""

import logging
from collections import Counter
from typing import Any

import numpy as np

from w2v2.data.manifest import Manifest
from w2v2.data.rejects import kinds_of
from w2v2.wording import counted

logger = logging.getLogger(__name__)


def account(manifest: Manifest) -> dict[str, Any]:
    """`clips` of metrics.json: {"given", "used", "rejected": {kind: n}, "passed_over": {kind: n}, "tolerated": {kind: n}}.

    given = used + all rejected + all passed over; tolerated counts clips among those used. Logged, too.
    """
    rejected = dict(Counter(kinds_of(manifest.rejects)).most_common())
    tolerated: Counter[str] = Counter()
    if "tolerated" in manifest.clips.column_names:
        tolerated.update(filter(None, manifest.clips["tolerated"].to_pylist()))
    numbers: dict[str, Any] = {
        "given": len(manifest.clips) + sum(rejected.values()) + sum(manifest.passed_over.values()),
        "used": len(manifest.clips),
        "rejected": rejected,
        "passed_over": dict(manifest.passed_over),
        "tolerated": _by_kind(tolerated),
    }
    logger.info(
        "clips: %d given = %d used + %s rejected + %s passed over%s",
        numbers["given"], numbers["used"], _words(rejected), _words(numbers["passed_over"]),
        f"; of those used, {_words(numbers['tolerated'])} tolerated" if tolerated else "",
    )  # fmt: skip
    return numbers


def data_summary(uri: str, manifest: Manifest) -> dict[str, Any]:
    """`data` of metrics.json: where the clips are, how many clips, rejects and speakers, and hours of audio."""
    return {
        "uri": uri,
        "num_clips": len(manifest.clips),
        "num_rejects": len(manifest.rejects),
        "num_speakers": len(manifest.clips["speaker"].unique()),
        "hours": float(np.asarray(manifest.clips["duration_s"]).sum()) / 3600,
    }


def _by_kind(tolerated: Counter[str]) -> dict[str, int]:
    """Counts by kind, without the numbers in a text, such as a peak, that differ from clip to clip."""
    kinds: Counter[str] = Counter()
    for text, num in tolerated.items():
        for kind in text.split("; "):
            kinds["samples on another scale" if kind.startswith("samples up to") else kind] += num
    return dict(kinds.most_common())


def _words(numbers: dict[str, int]) -> str:
    total = sum(numbers.values())
    kinds = ", ".join(counted(num, kind) for kind, num in numbers.items())
    return f"{total} ({kinds})" if total else "0"
