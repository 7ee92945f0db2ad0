"""A baseline over tasks: hand-made features of some clips each, then one held-out fold each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from w2v2.cluster.chunks import chunks_of
from w2v2.cluster.workers import Workers
from w2v2.config.baseline import BaselineConfig, SvmConfig
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig, Descriptor
from w2v2.features.requests import AudioIndex, ClipFeatures, Request
from w2v2.progress import Progress

if TYPE_CHECKING:  # import librosa, scikit-learn
    from w2v2.features.descriptor_features import DescribedClip
    from w2v2.training.svm import FoldFit


def describe_clips(
    clips: pa.Table,
    *,
    kinds: Sequence[Descriptor],
    data: DataConfig,
    audio: AudioConfig,
    cache: CacheConfig,
    workers: Workers,
) -> tuple[list[ClipFeatures], dict[str, Float[np.ndarray, " descriptors"]]]:
    """A ClipFeatures for every clip, in order, and the hand-made features of those that can be used, by clip_id."""
    index = AudioIndex(data, audio, cache)
    requests = index.requests(clips)
    num_at_once = workers.slots(cpus=1, gpus=0)
    chunks = chunks_of(range(len(requests)), num_at_once=num_at_once)
    results: list[list[DescribedClip]] = [[]] * len(chunks)
    task = workers.task(_describe_chunk, cpus=1, gpus=0)
    progress = Progress("hand-made features", len(requests), unit="clips")
    counts: Counter[str] = Counter()

    def done(number: int, result: "list[DescribedClip]") -> None:
        results[number] = result
        counts["done"] += len(result)
        progress(counts["done"])

    workers.map_tasks(
        lambda chunk: task.remote(
            requests[chunk[0] : chunk[-1] + 1], tuple(kinds), audio, cache, data.num_readers
        ),
        chunks,
        num_at_once=num_at_once,
        on_done=done,
    )
    described = [clip for part in results for clip in part]
    index.save(requests, [clip.prepared for clip in described])
    values = {clip.prepared.clip_id: clip.values for clip in described if clip.values is not None}
    return [clip.prepared for clip in described], values


def _describe_chunk(
    requests: Sequence[Request],
    kinds: Sequence[Descriptor],
    audio: AudioConfig,
    cache: CacheConfig,
    num_readers: int,
) -> "list[DescribedClip]":
    """A DescribedClip for each request; runs on a worker."""
    from w2v2.features.descriptor_features import prepare_descriptors

    return prepare_descriptors(requests, kinds=kinds, audio=audio, cache=cache, num_readers=num_readers)


def fit_folds(
    config: BaselineConfig,
    descriptors: Mapping[str, Float[np.ndarray, " _"]],
    clips: pa.Table,
    *,
    target: Int[np.ndarray, " clips"],
    num_classes: int,
    workers: Workers,
) -> "list[FoldFit]":
    """A FoldFit for each fold, in order; clips have fold and speaker, descriptors are by clip_id."""
    rows = np.stack([descriptors[clip_id] for clip_id in clips["clip_id"].to_pylist()])
    num_folds = config.folds.num_folds
    data = workers.shared(
        (rows, target, np.array(clips["speaker"].to_pylist(), np.str_), clips["fold"].to_numpy())
    )
    results: dict[int, FoldFit] = {}
    task = workers.task(_fit_fold, cpus=1, gpus=0)
    progress = Progress("folds", num_folds, unit="folds")

    def done(number: int, result: "FoldFit") -> None:
        results[number] = result
        progress(len(results))

    workers.map_tasks(
        lambda held_out: task.remote(data, held_out, config.svm, num_classes),
        range(num_folds),
        num_at_once=workers.slots(cpus=1, gpus=0),
        on_done=done,
    )
    return [results[fold] for fold in range(num_folds)]


FoldData = tuple[
    Float[np.ndarray, "clips descriptors"],
    Int[np.ndarray, " clips"],
    Shaped[np.ndarray, " clips"],
    Int[np.ndarray, " clips"],
]
"""Hand-made features, class, speaker and fold of every clip."""


def _fit_fold(data: FoldData, held_out: int, svm: SvmConfig, num_classes: int) -> "FoldFit":
    from w2v2.training.svm import fit_svm_on_fold

    descriptors, target, speaker, fold = data
    return fit_svm_on_fold(descriptors, target, speaker, fold, held_out, svm=svm, num_classes=num_classes)
