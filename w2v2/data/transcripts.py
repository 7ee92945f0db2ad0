"""The transcripts of the clip table: normalised, checked against their audio and against each other."""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa

from w2v2.config.text import TextConfig
from w2v2.data.manifest import Manifest, with_rejects
from w2v2.data.text import Vocabulary, frames_needed, listed_characters, normalize
from w2v2.errors import Reject, UserError

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=Any)
"""A clip that was read: a dataclass with num_samples and reject, such as features.ClipFeatures."""


def with_references(manifest: Manifest, text: TextConfig) -> Manifest:
    """The clips with a column reference, their normalised text; clips with an empty one are rejected unless text.keep_empty."""
    references = [normalize(reference, text) for reference in manifest.clips["text"].to_pylist()]
    clips = manifest.clips.append_column("reference", pa.array(references, pa.string()))
    manifest = replace(manifest, clips=clips)
    if text.keep_empty:
        return manifest
    rows = zip(clips["clip_id"].to_pylist(), clips["text"].to_pylist(), references, strict=True)
    empty = [
        (clip_id, Reject(kind="no text", detail=f"{raw!r} is empty once normalised" if raw else ""))
        for clip_id, raw, reference in rows
        if not reference
    ]
    return with_rejects(manifest, empty)


def num_frames(
    num_samples: int, *, kernels: Sequence[int], strides: Sequence[int], speed: float = 1.0
) -> int:
    """Frames that an encoder's convolutions make of a waveform that is played `speed` times as fast.

    >>> num_frames(16_000, kernels=[10, 3, 3, 3, 3, 2, 2], strides=[5, 2, 2, 2, 2, 2, 2])
    49
    """
    num = math.floor(num_samples / speed)
    for kernel, stride in zip(kernels, strides, strict=True):
        num = max(0, (num - kernel) // stride + 1)
    return num


def reject_too_short(reference: str, frames: int) -> Reject | None:
    """The reject of a clip with too few frames for CTC to write its transcript; None if it has enough."""
    needed = frames_needed(reference)
    if frames >= needed:
        return None
    return Reject(kind="too short for its transcript", detail=f"{frames} frames < {needed} needed")


def long_enough(
    prepared: Sequence[C],
    references: Sequence[str],
    *,
    kernels: Sequence[int],
    strides: Sequence[int],
    speed: float = 1.0,
) -> list[C]:
    """The clips, with a reject for each that has too few frames for its transcript."""
    made = []
    for clip, reference in zip(prepared, references, strict=True):
        frames = num_frames(clip.num_samples, kernels=kernels, strides=strides, speed=speed)
        made.append(replace(clip, reject=clip.reject or reject_too_short(reference, frames)))
    return made


def references_of(clips: pa.Table, split: str) -> list[str]:
    """The references of one split."""
    rows = zip(clips["reference"].to_pylist(), clips["split"].to_pylist(), strict=True)
    return [reference for reference, split_name in rows if split_name == split]


def refuse_unknown(references: Sequence[str], vocabulary: Vocabulary, *, max_fraction: float) -> None:
    """Raises UserError where a model's vocabulary lacks too many of the training characters, naming them."""
    unknown = unknown_characters(references, vocabulary)
    num_all = sum(map(len, references))
    if unknown.total() > max_fraction * num_all:
        raise UserError(
            f"{unknown.total()} of {num_all} training characters are not in the model's vocabulary: "
            f"{listed_characters(unknown)}; set --text.case, --text.drop_chars or --text.space_chars, raise "
            "--text.max_unknown_fraction to leave them out of what is learned, or set --text.vocab train"
        )
    if unknown:
        logger.warning(
            "the model's vocabulary lacks %s: left out of what is learned", listed_characters(unknown)
        )


def unknown_characters(references: Sequence[str], vocabulary: Vocabulary) -> Counter[str]:
    """Counts of the characters of the references that the vocabulary lacks."""
    total: Counter[str] = Counter()
    for reference in references:
        total += vocabulary.unknown(reference)
    return total


def warn_unknown(references: Sequence[str], vocabulary: Vocabulary, *, where: str) -> dict[str, int]:
    """Counts of the characters of the references that the vocabulary lacks; logs a warning if there are any."""
    unknown = unknown_characters(references, vocabulary)
    if unknown:
        logger.warning(
            "%s has characters that the model cannot write, each an error: %s",
            where,
            listed_characters(unknown),
        )
    return dict(sorted(unknown.items(), key=lambda item: (-item[1], item[0])))


def num_in_other_folds(clips: pa.Table) -> int:
    """The number of clips whose reference also occurs in another fold."""
    folds: dict[str, set[int]] = {}
    rows = list(zip(clips["reference"].to_pylist(), clips["fold"].to_pylist(), strict=True))
    for reference, fold in rows:
        folds.setdefault(reference, set()).add(fold)
    return sum(bool(reference) and len(folds[reference]) > 1 for reference, _ in rows)


def warn_seen(num_seen: int, num_clips: int, *, where: str) -> None:
    """Log a warning if num_seen of num_clips scored clips have a transcript that is not new; where says so, as "was seen in training"."""
    if num_seen:
        logger.warning(
            "%d of %d clips have a transcript that %s: their score is not of new sentences",
            num_seen,
            num_clips,
            where,
        )


def num_in_train(clips: pa.Table) -> int:
    """The number of test clips whose reference also occurs in the training split."""
    train = set(references_of(clips, "train"))
    return sum(bool(reference) and reference in train for reference in references_of(clips, "test"))
