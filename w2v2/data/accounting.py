"""Accounts of a job's input: the numbers of clips used, rejected by kind and passed over by kind add up to all given files and rows."""

import logging
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from w2v2.data.manifest import Manifest
from w2v2.data.rejects import kinds_of
from w2v2.json_types import Json
from w2v2.wording import counted

logger = logging.getLogger(__name__)


def account(manifest: Manifest) -> dict[str, Json]:
    """`clips` of metrics.json: {"given", "used", "rejected": {kind: n}, "passed_over": {kind: n}, "tolerated": {kind: n}}.

    given = used + all rejected + all passed over; tolerated counts clips among those used. Logged, too.
    """
    return account_of(
        len(manifest.clips), manifest.rejects, manifest.passed_over, tolerated_in(manifest.clips)
    )


def tolerated_in(clips: pa.Table) -> Counter[str]:
    """How many of the clips have each text in the column tolerated, those without any left out."""
    if "tolerated" not in clips.column_names:
        return Counter()
    counts = {item["values"]: item["counts"] for item in clips["tolerated"].value_counts().to_pylist()}
    return Counter({text: num for text, num in counts.items() if text})


def account_of(
    num_used: int, rejects: pa.Table, passed_over: Mapping[str, int], tolerated: Counter[str]
) -> dict[str, Json]:
    """The numbers of `account`, from sums over the used clips."""
    rejected = dict(Counter(kinds_of(rejects)).most_common())
    num_given = num_used + sum(rejected.values()) + sum(passed_over.values())
    tolerated_by_kind = _by_kind(tolerated)
    logger.info(
        "clips: %d given = %d used + %s rejected + %s passed over%s",
        num_given, num_used, _words(rejected), _words(passed_over),
        f"; of those used, {_words(tolerated_by_kind)} tolerated" if tolerated else "",
    )  # fmt: skip
    return {
        "given": num_given,
        "used": num_used,
        "rejected": rejected,
        "passed_over": dict(passed_over),
        "tolerated": tolerated_by_kind,
    }


def data_summary(uri: str, manifest: Manifest) -> dict[str, Json]:
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


def _words(numbers: Mapping[str, int]) -> str:
    total = sum(numbers.values())
    kinds = ", ".join(counted(num, kind) for kind, num in numbers.items())
    return f"{total} ({kinds})" if total else "0"
