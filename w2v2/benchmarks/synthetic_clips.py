"""Synthetic speech of chosen lengths, as waveforms, as a bucket's files or as a RAVDESS-shaped corpus."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from w2v2.audio import synthesis
from w2v2.audio.decoding import SAMPLE_RATE, resample

# RAVDESS's speech clips: mean, spread, shortest and longest.
RAVDESS_S = (3.70, 0.34, 2.94, 5.27)
HEAVY_MEDIAN_S, HEAVY_LOG_SPREAD, HEAVY_RANGE_S = 4.5, 0.8, (2.0, 30.0)
NUM_SPEAKERS = 24
CLASSES = (4, 5)
"""Sad and angry, as RAVDESS numbers them: so different that a few clips are enough to learn them."""


def ravdess_lengths_s(num_clips: int, *, seed: int) -> Float[np.ndarray, " clips"]:
    """Lengths in seconds, like those of RAVDESS's speech clips, 2.94 to 5.27."""
    mean, spread, shortest, longest = RAVDESS_S
    drawn = np.random.default_rng([seed, 1]).normal(mean, spread, num_clips)
    return np.clip(drawn, shortest, longest)


def heavy_lengths_s(num_clips: int, *, seed: int) -> Float[np.ndarray, " clips"]:
    """Lengths in seconds with a heavy tail: lognormal with median 4.5, what lies outside 2 to 30 drawn again."""
    rng = np.random.default_rng([seed, 2])
    low, high = HEAVY_RANGE_S
    kept = np.empty(0)
    while len(kept) < num_clips:
        drawn = np.exp(rng.normal(np.log(HEAVY_MEDIAN_S), HEAVY_LOG_SPREAD, num_clips))
        kept = np.concatenate([kept, drawn[(drawn >= low) & (drawn <= high)]])
    return kept[:num_clips]


def speech(length_s: float, *, actor: int, emotion: int, seed: int) -> Float[np.ndarray, " samples"]:
    """A waveform at 16 kHz: an actor's utterances, one after another, between faint noise."""
    num_samples = round(length_s * SAMPLE_RATE)
    waveform = 1e-3 * np.random.default_rng([seed, actor, emotion]).standard_normal(num_samples)
    at = SAMPLE_RATE // 4
    for repetition in itertools.count(1):
        utterance = synthesis.synthesize(
            actor, synthesis.EMOTIONS[emotion - 1], repetition=repetition, seed=seed
        )
        utterance = resample(utterance.astype(np.float32), synthesis.SAMPLE_RATE_HZ, "soxr")[
            : max(0, num_samples - at)
        ]
        waveform[at : at + len(utterance)] += utterance
        at += len(utterance) + SAMPLE_RATE // 4
        if at >= num_samples:
            return waveform.clip(-1, 1).astype(np.float32)
    raise AssertionError


def waveforms(
    lengths_s: Sequence[float] | Float[np.ndarray, " clips"], *, seed: int
) -> list[Float[np.ndarray, " _"]]:
    """Speech of these lengths at 16 kHz, each clip by another actor."""
    return [
        speech(length_s, actor=number % NUM_SPEAKERS + 1, emotion=number % 8 + 1, seed=seed + number)
        for number, length_s in enumerate(lengths_s)
    ]


def write_wavs(folder: Path, clips: Sequence[Float[np.ndarray, " _"]]) -> list[Path]:
    """The clips as 16-bit wav files 0000.wav, 0001.wav, ... in a new folder."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:04d}.wav" for number in range(len(clips))]
    for path, clip in zip(paths, clips, strict=True):
        soundfile.write(path, clip, SAMPLE_RATE)
    return paths


def write_corpus(folder: Path, lengths_s: Float[np.ndarray, " clips"], *, seed: int) -> Path:
    """The folder, with one clip of each length under RAVDESS's names: two classes, up to 24 speakers in turn."""
    for number, length_s in enumerate(lengths_s):
        take, at = divmod(number, NUM_SPEAKERS)
        actor = at + 1
        # Each speaker says both in turn, and neighbours do not say the same.
        emotion = CLASSES[(take + at) % 2]
        statement, repetition = take // 2 % 2 + 1, take // 4 % 2 + 1
        path = folder / f"take_{take}/03-01-{emotion:02d}-01-{statement:02d}-{repetition:02d}-{actor:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = speech(float(length_s), actor=actor, emotion=emotion, seed=seed + number)
        soundfile.write(path, sound, SAMPLE_RATE)
    return folder


def write_short_clips(folder: Path, *, num_clips: int, clip_s: float, seed: int) -> Path:
    """The folder, with this many files of noise, no two the same."""
    rng = np.random.default_rng([seed, num_clips])
    num_samples = round(clip_s * SAMPLE_RATE)
    for number in range(num_clips):
        if number % 1000 == 0:
            (folder / f"{number // 1000:03d}").mkdir(parents=True)
        noise = (3000 * rng.standard_normal(num_samples)).clip(-32768, 32767).astype(np.int16)
        soundfile.write(folder / f"{number // 1000:03d}/{number:06d}.wav", noise, SAMPLE_RATE)
    return folder
