"""Random draws of a clip in pre-training: crop, mask, negatives and noise, by seed, epoch and its audio alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from w2v2.config.pretrain import MaskConfig

VALIDATION = -1
"""The epoch number of validation, so that its draws are the same each time."""


@dataclass(frozen=True, kw_only=True)
class ClipDraw:
    """The draws for one clip; they do not depend on the other clips of its batch."""

    masked: Bool[np.ndarray, " frames"]
    """Frames that the encoder does not see."""
    negatives: Int[np.ndarray, "masked negatives"]
    """For each masked frame the numbers of the masked frames (0 is the first) that are its negatives."""
    chance_hits: float
    """Sum over masked frames of the probability to find the frame among its candidates by guessing."""


def clip_generator(seed: int, epoch: int, digest: str) -> np.random.Generator:
    """A generator for one clip in one epoch, or VALIDATION; digest is the hexadecimal digest of its audio."""
    return np.random.default_rng([seed, epoch + 1, int(digest, 16)])


def crop_start(length: int, crop: int, rng: np.random.Generator) -> int:
    """The start of a crop of `crop` out of `length` samples or frames, drawn uniformly; 0 if length <= crop."""
    return int(rng.integers(length - crop + 1)) if length > crop else 0


def draw_clip(num_frames: int, mask: MaskConfig, rng: np.random.Generator) -> ClipDraw:
    """The mask and the negatives of a clip of at least mask.min_frames frames."""
    masked = draw_mask(num_frames, mask, rng)
    count = int(masked.sum())
    negatives = rng.integers(count - 1, size=(count, mask.num_negatives))
    negatives += negatives >= np.arange(count)[:, None]  # uniform over the others
    ordered = np.sort(negatives, axis=1)
    num_distinct = 1 + (np.diff(ordered, axis=1) > 0).sum(axis=1)
    return ClipDraw(masked=masked, negatives=negatives, chance_hits=float((1 / (1 + num_distinct)).sum()))


def gumbel_noise(
    shape: tuple[int, ...], rng: np.random.Generator
) -> Float[np.ndarray, "masked groups codes"]:
    """Standard Gumbel noise in float32, always finite.

    Computed as -log of exponential draws, clamped because numpy draws an exact 0 about once in seven million.
    """
    draws = rng.standard_exponential(shape, dtype=np.float32)
    return -np.log(np.maximum(draws, np.finfo(np.float32).tiny))


def draw_mask(num_frames: int, mask: MaskConfig, rng: np.random.Generator) -> Bool[np.ndarray, " frames"]:
    """True where a frame is masked, of a clip of at least mask.min_frames frames.

    Spans start at places drawn without replacement and may overlap (Baevski et al. 2020, section 3.1). Their number,
    start_probability * num_frames on average, is rounded up or down at random; at least one frame stays visible.
    """
    most = (num_frames - 1) // mask.span
    num_spans = min(most, max(1, int(mask.start_probability * num_frames + rng.random())))
    starts = rng.choice(num_frames - mask.span + 1, size=num_spans, replace=False)
    masked = np.zeros(num_frames, dtype=bool)
    masked[(starts[:, None] + np.arange(mask.span)).ravel()] = True
    return masked
