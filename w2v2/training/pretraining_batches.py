"""Clips of pre-training as padded batches with their draws, and the sums over a batch."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.pretrain import PretrainConfig
from w2v2.features.batches import Features, collate
from w2v2.models.contrastive import diversity, perplexity
from w2v2.models.masking import (
    VALIDATION,
    clip_generator,
    crop_start,
    draw_clip,
    draw_mask,
    gumbel_noise,
)
from w2v2.models.pretraining import BatchDraw, PretrainingModel, Sums
from w2v2.training.clusters import ClusterTargets

Inputs = tuple[Float[Tensor, "_ ..."], Int[Tensor, " _"], BatchDraw]
"""Features at the encoder's cut, zero past their ends, their lengths, and the draws."""


@dataclass(frozen=True, kw_only=True)
class PretrainClips:
    """Clips to pre-train on or to validate with, in one order."""

    features: Features
    """At the encoder's cut."""
    num_samples: Int[np.ndarray, " clips"]
    digests: Sequence[str]
    """Hexadecimal digests of the audio."""
    clusters: ClusterTargets | None = None
    """The targets, where clusters are predicted."""

    def __len__(self) -> int:
        return len(self.digests)


class BatchDrawer:
    """Makes the padded batches of some clips; a clip's crop, mask, negatives and noise do not depend on the batch."""

    def __init__(self, clips: PretrainClips, model: PretrainingModel, config: PretrainConfig) -> None:
        self.clips, self._config = clips, config
        self._encoder, self._code_shape = model.encoder, model.code_shape
        crop = round(config.training.crop_s * SAMPLE_RATE)
        self.num_samples = np.minimum(clips.num_samples, crop or clips.num_samples.max(initial=0))
        """Samples of each clip after cropping."""
        self._num_frames = model.encoder.num_frames(torch.from_numpy(self.num_samples)).numpy()

    def batch(self, clips: Int[np.ndarray, " part"], *, epoch: int) -> Inputs:
        """The padded batch of some clips, by their numbers, in an epoch (or masking.VALIDATION)."""
        rngs = [clip_generator(self._config.seed, epoch, self.clips.digests[i]) for i in clips.tolist()]
        starts = [self._start(index, rng) for index, rng in zip(clips.tolist(), rngs, strict=True)]
        arrays = [self._cropped(index, start) for index, start in zip(clips.tolist(), starts, strict=True)]
        lengths = self._num_frames[clips].tolist()
        if self.clips.clusters is None:
            draw = self._contrastive(lengths, rngs, is_noisy=epoch != VALIDATION)
        else:
            draw = self._clusters(clips.tolist(), starts, lengths, rngs)
        return (*collate(arrays), draw)

    def _contrastive(
        self, lengths: Sequence[int], rngs: Sequence[np.random.Generator], *, is_noisy: bool
    ) -> BatchDraw:
        draws = [draw_clip(length, self._config.mask, rng) for length, rng in zip(lengths, rngs, strict=True)]
        noise = [
            gumbel_noise((len(draw.negatives), *self._code_shape), rng)
            for draw, rng in zip(draws, rngs, strict=True)
            if is_noisy
        ]
        num_masked = sum(len(draw.negatives) for draw in draws)
        return BatchDraw(
            masked=_padded([draw.masked for draw in draws]),
            negatives=torch.from_numpy(np.concatenate([draw.negatives for draw in draws])),
            noise=torch.from_numpy(np.concatenate(noise)) if noise else None,
            chance_hits=sum(draw.chance_hits for draw in draws),
            chance_loss=num_masked * math.log1p(self._config.mask.num_negatives),
        )

    def _clusters(
        self,
        clips: Sequence[int],
        starts: Sequence[int],
        lengths: Sequence[int],
        rngs: Sequence[np.random.Generator],
    ) -> BatchDraw:
        assert self.clips.clusters is not None
        masks = [draw_mask(length, self._config.mask, rng) for length, rng in zip(lengths, rngs, strict=True)]
        labels = np.concatenate(
            [
                self.clips.clusters[index][start : start + length][mask]
                for index, start, length, mask in zip(clips, starts, lengths, masks, strict=True)
            ]
        )
        hits, loss = self.clips.clusters.guessing(labels)
        return BatchDraw(
            masked=_padded(masks), labels=torch.from_numpy(labels), chance_hits=hits, chance_loss=loss
        )

    def _start(self, index: int, rng: np.random.Generator) -> int:
        """The frame of the whole clip at which its crop starts."""
        whole = self._encoder.convolved_lengths(torch.tensor([len(self.clips.features[index])]))
        return crop_start(int(whole[0]), int(self._num_frames[index]), rng)

    def _cropped(self, index: int, start: int) -> Float[np.ndarray, "length ..."]:
        """The features of a clip from a frame on."""
        features = self.clips.features[index]
        if self._encoder.cut.stage == "conv":
            return features[start : start + int(self._num_frames[index])]
        first = start * self._encoder.hop_samples
        return features[first : first + int(self.num_samples[index])]


class BatchesAhead:
    """The batches of a BatchDrawer, made in the background while others are trained on.

    Batches and their order do not change by this, as a clip's draws do not depend on other clips.
    """

    def __init__(self, drawer: BatchDrawer) -> None:
        self._drawer = drawer
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._coming: dict[tuple[int, bytes], Future[Inputs]] = {}
        self.waited_s = 0.0
        """Seconds that callers of `batch` have waited."""

    def expect(self, clips: Int[np.ndarray, " part"], *, epoch: int) -> None:
        """Begin to make the batch of these clips, unless that has begun."""
        key = epoch, clips.tobytes()
        if key not in self._coming:
            self._coming[key] = self._maker.submit(self._drawer.batch, clips, epoch=epoch)

    def batch(self, clips: Int[np.ndarray, " part"], *, epoch: int) -> Inputs:
        """The result of BatchDrawer.batch, or its error."""
        self.expect(clips, epoch=epoch)
        started = time.monotonic()
        try:
            return self._coming.pop((epoch, clips.tobytes())).result()
        finally:
            self.waited_s += time.monotonic() - started


def _padded(masks: Sequence[Bool[np.ndarray, " _"]]) -> Bool[Tensor, "batch frames"]:
    rows = np.zeros((len(masks), max(map(len, masks))), dtype=bool)
    for row, mask in zip(rows, masks, strict=True):
        row[: len(mask)] = mask
    return torch.from_numpy(rows)


SCALARS = (
    "loss",
    "num_hits",
    "num_masked",
    "chance_hits",
    "chance_loss",
    "num_frames",
    "feature_square",
)
"""The single numbers of Totals."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over the masked frames of a batch or an epoch, of all processes."""

    loss: float = 0.0
    num_hits: float = 0.0
    num_masked: float = 0.0
    chance_hits: float = 0.0
    """Expected hits of guessing."""
    chance_loss: float = 0.0
    """Loss of guessing."""
    num_frames: float = 0.0
    feature_square: float = 0.0
    code_probabilities: Float[np.ndarray, "groups codes"]
    code_counts: Float[np.ndarray, "groups codes"]

    @classmethod
    def zero(cls, shape: tuple[int, int]) -> "Totals":
        """Totals of zero, for books of codes of this shape."""
        return cls(code_probabilities=np.zeros(shape), code_counts=np.zeros(shape))

    @classmethod
    def of_pass(cls, sums: Sums, draw: BatchDraw, num_frames: float) -> "Totals":
        """The totals of one forward pass."""
        return cls(
            loss=sums.loss.item(),
            num_hits=sums.num_hits.item(),
            num_masked=float(draw.masked.sum()),
            chance_hits=draw.chance_hits,
            chance_loss=draw.chance_loss,
            num_frames=num_frames,
            feature_square=sums.feature_square.item(),
            code_probabilities=sums.code_probabilities.detach().double().cpu().numpy(),
            code_counts=sums.code_counts.double().cpu().numpy(),
        )

    def flat(self) -> Float[np.ndarray, " numbers"]:
        """All numbers as one array, for sums over processes and for checkpoints."""
        codes = (self.code_probabilities.ravel(), self.code_counts.ravel())
        return np.concatenate([[getattr(self, name) for name in SCALARS], *codes])

    @classmethod
    def from_flat(cls, flat: Float[np.ndarray, " numbers"], shape: tuple[int, int]) -> "Totals":
        """The inverse of flat."""
        scalars = dict(zip(SCALARS, flat[: len(SCALARS)].tolist(), strict=True))
        probabilities, counts = flat[len(SCALARS) :].reshape(2, *shape)
        return cls(**scalars, code_probabilities=probabilities, code_counts=counts)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals.from_flat(self.flat() + other.flat(), self.code_probabilities.shape)

    def readings(self) -> dict[str, float]:
        """Ratios of the sums by name, each taken once; losses are in nats per masked frame."""
        soft = torch.from_numpy(self.code_probabilities)
        hard = torch.from_numpy(self.code_counts)
        return {
            "loss": self.loss / self.num_masked,
            "chance_loss": self.chance_loss / self.num_masked,
            "accuracy": self.num_hits / self.num_masked,
            "chance_accuracy": self.chance_hits / self.num_masked,
            "perplexity": perplexity(soft, self.num_masked).sum().item(),
            "code_perplexity": perplexity(hard, self.num_masked).sum().item(),
            "diversity": diversity(soft, self.num_masked).item(),
            "feature_square": self.feature_square / self.num_frames,
            "masked_fraction": self.num_masked / self.num_frames,
        }
