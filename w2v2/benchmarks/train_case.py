"""Case all: one epoch of training all but the convolutions, and of training everything, by w2v2 and by Trainer."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.encoders import encoder_folder
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, alternate
from w2v2.benchmarks.transformers_trainer import LabelledClips, check_trainer, load_peer, train_fold
from w2v2.benchmarks.uncached_training import (
    MAX_LOSS_DIFFERENCE,
    SIDE,
    UncachedClassifier,
    clip_set,
    features_of,
)
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.features.batches import ClipSet
from w2v2.models.classifier import Classifier, trainable_copy
from w2v2.models.pretrained import load_encoder
from w2v2.training import trainer

TRAINER = "Trainer"
Trained = Literal["no_conv", "all"]
PARTS: dict[Trained, str] = {"no_conv": "everything but the convolutions", "all": "everything"}
WANTED: dict[Trained, float] = {"no_conv": 1.2, "all": 1.0}
OPTIM = OptimConfig(learning_rate=1e-5, schedule="linear", warmup_fraction=0.0)


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One epoch: its mean loss, and seconds without loading."""

    loss: float
    seconds: float


def train(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Seconds of an epoch; what is frozen is computed before it, and its seconds are reported separately."""
    check_trainer()
    torch.set_num_threads(config.threads)
    folder = encoder_folder(config.encoder, scratch / "encoder", seed=config.seed)
    clips = labelled(config.train.num_clips, seed=config.seed)
    results = [_Part(config, folder, clips, trained).run() for trained in PARTS]
    return CaseResult(
        case="all",
        comparisons=[comparison for result in results for comparison in result.comparisons],
        agreements=[agreement for result in results for agreement in result.agreements],
        notes=[note for result in results for note in result.notes],
    )


def labelled(num_clips: int, *, seed: int) -> LabelledClips:
    """Clips of RAVDESS's lengths and of two classes, all in fold 0."""
    return labelled_of(synthetic_clips.ravdess_lengths_s(num_clips, seed=seed), seed=seed)


def labelled_of(lengths_s: Float[np.ndarray, " clips"], *, seed: int) -> LabelledClips:
    """Clips of these lengths and of two classes, all in fold 0."""
    return _labelled(synthetic_clips.waveforms(lengths_s, seed=seed))


def noise(lengths_s: Float[np.ndarray, " clips"], *, seed: int) -> LabelledClips:
    """Clips of white noise of these lengths, of two classes, all in fold 0: for cases that measure seconds alone."""
    rng = np.random.default_rng(seed)
    waveforms = [rng.standard_normal(round(s * SAMPLE_RATE), dtype=np.float32) for s in lengths_s]
    return _labelled(waveforms)


def _labelled(waveforms: list[Float[np.ndarray, " _"]]) -> LabelledClips:
    return LabelledClips(
        waveforms=waveforms,
        targets=np.arange(len(waveforms)) % 2,
        folds=np.zeros(len(waveforms), dtype=np.int64),
        num_classes=2,
    )


class _Part:
    """One choice of what is trained, by both sides."""

    def __init__(self, config: BenchmarkConfig, folder: str, clips: LabelledClips, trained: Trained) -> None:
        self._config, self._folder, self._clips, self._trained = config, folder, clips, trained
        self._optim = replace(OPTIM, batch_size=config.train.batch_size)
        self._encoder = load_encoder(EncoderConfig(name=folder, train=trained), seed=config.seed)
        self._waveforms = clip_set(clips, clips.folds == 0)

    def run(self) -> CaseResult:
        """The part's comparison and agreements."""
        started = time.perf_counter()
        cached = self._waveforms if self._trained == "all" else features_of(self._encoder, self._waveforms)
        once_s = time.perf_counter() - started
        part = PARTS[self._trained]
        sides = {OURS: lambda number: self._ours(Classifier, cached), TRAINER: lambda number: self._theirs()}
        for side in sides.values():
            side(-1)  # the first epoch of a process also allocates memory and loads kernels
        rounds = alternate(sides, rounds=self._config.rounds_of("all"), what=f"all, {part}")
        comparison = Comparison(
            part=part,
            seconds={side: [made.seconds for made in results] for side, results in rounds.results.items()},
            amount=len(cached),
            unit="clips",
            wanted={TRAINER: WANTED[self._trained]},
        )
        ours, theirs = rounds.results[OURS][-1], rounds.results[TRAINER][-1]
        agreements = [_apart(part, TRAINER, ours, theirs, at_most=float("inf"))]
        notes = []
        if self._trained == "no_conv":
            again = self._ours(UncachedClassifier, self._waveforms)
            agreements.append(_apart(part, SIDE, ours, again, at_most=MAX_LOSS_DIFFERENCE))
            notes.append(
                f"{part}: the convolutions took {once_s:.3g} s, once for all epochs; an epoch of ours that computes "
                f"them anew took {again.seconds:.4g} s"
            )
        return CaseResult(case="all", comparisons=[comparison], agreements=agreements, notes=notes)

    def _ours(self, kind: type[Classifier], train: ClipSet) -> EpochResult:
        seed = self._config.seed
        torch.manual_seed(seed)
        model = kind(trainable_copy(self._encoder), HeadConfig(dropout=0.0), groups=[self._clips.num_classes])
        started = time.perf_counter()
        curve = trainer.train(
            model, train, optim=self._optim, training=TrainingConfig(num_epochs=1), seed=seed
        )
        return EpochResult(loss=curve[-1].train_loss, seconds=time.perf_counter() - started)

    def _theirs(self) -> EpochResult:
        seed = self._config.seed
        peer = load_peer(self._folder, self._encoder.config, self._clips.num_classes)
        torch.manual_seed(seed)
        peer.head.reset_parameters()
        made = train_fold(peer, self._clips, trial=0, fold=-1, optim=self._optim, num_epochs=1, seed=seed)
        return EpochResult(loss=made.train_losses[0], seconds=made.seconds)


def _apart(part: str, side: str, ours: EpochResult, other: EpochResult, *, at_most: float) -> Agreement:
    value = abs(ours.loss - other.loss)
    measure = "training loss, difference from ours"
    return Agreement(part=part, side=side, what=measure, value=value, at_most=at_most)
