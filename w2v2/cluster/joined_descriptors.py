"""The hand-made features that a head joins to an encoder's vectors."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from w2v2.cluster.workers import Workers
from w2v2.config.finetune import FinetuneConfig
from w2v2.features.requests import ClipFeatures

Descriptors = Mapping[str, Float[np.ndarray, " descriptors"]]
"""Hand-made features by clip_id."""


def joined_descriptors(
    config: FinetuneConfig, clips: pa.Table, workers: Workers
) -> tuple[list[ClipFeatures], Descriptors]:
    """A ClipFeatures for every clip, in order, and the hand-made features of the usable ones; empty if the head joins none."""
    if not config.head.joined:
        return [], {}
    from w2v2.cluster import baseline

    return baseline.describe_clips(
        clips,
        kinds=config.head.joined,
        data=config.data,
        audio=config.audio,
        cache=config.cache,
        workers=workers,
    )


def descriptor_rows(
    descriptors: Descriptors, clips: pa.Table
) -> Float[np.ndarray, "clips descriptors"] | None:
    """The features as rows in the order of the clips; None if there are none."""
    return np.stack([descriptors[name] for name in clips["clip_id"].to_pylist()]) if descriptors else None
