"""Decoding of frames' log probabilities to text, with its confidence and the times of its words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from w2v2.data.text import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word, its frames and its confidence."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    """Mean probability of its characters."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The text of one clip, its confidence and its words."""

    text: str
    confidence: float | None
    """Mean probability of its characters; None where nothing is written."""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """Successive frames of a path with one label."""

    label: int
    first: int
    last: int


def greedy_path(log_probabilities: Float[np.ndarray, "frames outputs"]) -> Int[np.ndarray, " frames"]:
    """The most probable path: the most probable label of every frame."""
    return log_probabilities.argmax(1).astype(np.int64)


def forced_path(
    log_probabilities: Float[np.ndarray, "frames outputs"],
    labels: Int[np.ndarray, " characters"],
    *,
    blank: int,
) -> Int[np.ndarray, " frames"]:
    """The most probable path that writes exactly these labels, by Viterbi's algorithm (cf. Graves et al. 2006, section 4.1).

    Raises ValueError where there are fewer frames than data.text.frames_needed.
    """
    states = np.full(2 * len(labels) + 1, blank, np.int64)
    states[1::2] = labels
    # Two states back: from one label to the next without the blank between them, which equal labels need.
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    num_frames = len(log_probabilities)
    score = np.full(len(states), -np.inf)
    score[:2] = log_probabilities[0, states[:2]]
    came_from = np.zeros((num_frames, len(states)), np.int64)
    for frame in range(1, num_frames):
        one_back = np.concatenate([[-np.inf], score])[: len(states)]
        two_back = np.where(skips, np.concatenate([[-np.inf, -np.inf], score])[: len(states)], -np.inf)
        ways = np.stack([score, one_back, two_back])
        came_from[frame] = ways.argmax(0)
        score = ways.max(0) + log_probabilities[frame, states]
    at = len(states) - 1 if len(states) == 1 or score[-1] >= score[-2] else len(states) - 2
    if score[at] == -np.inf:
        raise ValueError(f"{num_frames} frames cannot write these {len(labels)} labels")
    path = np.empty(num_frames, np.int64)
    for frame in reversed(range(num_frames)):
        path[frame] = states[at]
        at -= came_from[frame, at]
    return path


def runs_of(path: Int[np.ndarray, " frames"], *, blank: int) -> list[Run]:
    """The labels that a path writes, each with its frames: repeats are merged, blanks removed.

    >>> [(run.label, run.first, run.last) for run in runs_of(np.array([0, 7, 7, 0, 7, 5]), blank=0)]
    [(7, 1, 2), (7, 4, 4), (5, 5, 5)]
    """
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    ends = np.append(starts[1:], len(path))
    return [
        Run(label=int(path[first]), first=int(first), last=int(end) - 1)
        for first, end in zip(starts, ends, strict=True)
        if path[first] != blank
    ]


def transcript_of(
    path: Int[np.ndarray, " frames"],
    log_probabilities: Float[np.ndarray, "frames outputs"],
    vocabulary: Vocabulary,
    *,
    frame_s: float,
    start_s: float = 0.0,
) -> Transcript:
    """The transcript that a path writes. Frame n starts n * frame_s after start_s; a word ends with its last frame.

    CTC may write a character anywhere within its sound or soon after it: times are no more exact than that.
    """
    characters = vocabulary.characters
    runs = [run for run in runs_of(path, blank=vocabulary.blank) if characters[run.label]]
    certainty = [float(np.exp(log_probabilities[r.first : r.last + 1, r.label]).mean()) for r in runs]
    words: list[Word] = []
    for rows in _words([characters[run.label] for run in runs]):
        words.append(
            Word(
                text="".join(characters[runs[row].label] for row in rows),
                start_s=start_s + runs[rows[0]].first * frame_s,
                end_s=start_s + (runs[rows[-1]].last + 1) * frame_s,
                confidence=float(np.mean([certainty[row] for row in rows])),
            )
        )
    written = [row for row, run in enumerate(runs) if characters[run.label] != " "]
    return Transcript(
        text=" ".join(word.text for word in words),
        confidence=float(np.mean([certainty[row] for row in written])) if written else None,
        words=tuple(words),
    )


def _words(characters: Sequence[str]) -> list[list[int]]:
    """The places of the characters of each word."""
    words: list[list[int]] = [[]]
    for place, char in enumerate(characters):
        if char == " ":
            words.append([])
        else:
            words[-1].append(place)
    return [places for places in words if places]
