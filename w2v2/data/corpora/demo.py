"""The built-in corpora, made in seconds by synthetic talkers, without a download: acted emotions, and sentences."""

import io
import itertools
import logging
import os
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float

from w2v2.audio.synthesis import (
    EMOTIONS,
    NUM_ACTORS,
    SAMPLE_RATE_HZ,
    WORDS,
    synthesize,
    synthesize_sentence,
)
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)

# Part of the name of the corpus's folder: raise it with every change to the sound.
VERSION = 1


def make_corpus(
    folder: Path,
    *,
    num_statements: int = 2,
    num_repetitions: int = 1,
    num_intensities: int = 1,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda num_done, num_clips: None,
) -> Path:
    """The corpus's folder, with Actor_01 to Actor_24, under `folder`; makes the clips that are missing.

    384 clips of one to two seconds, or RAVDESS's 1,440 with two of everything (neutral has no strong
    intensity). A finished corpus is returned at once and an interrupted one is continued.
    `on_progress` gets the number of clips made so far, and of all clips.
    """
    root = folder / f"v{VERSION}-seed{seed}-{num_statements}x{num_repetitions}x{num_intensities}"
    paths = [root / name for name in clip_names(num_statements, num_repetitions, num_intensities)]
    return _made(root, paths, lambda path: _wav(path.stem, seed), on_progress)


def make_sentences(
    folder: Path,
    *,
    num_sentences: int = 40,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda num_done, num_clips: None,
) -> Path:
    """The folder of a corpus in LibriSpeech's layout under `folder`, with num_sentences by each of 24 speakers.

    A sentence is two to five of sixteen words drawn at random; none is spoken twice, so that no sentence of the test
    split is in training.
    """
    root = folder / f"sentences-v{VERSION}-seed{seed}-{num_sentences}"
    drawn = draw_sentences(NUM_ACTORS * num_sentences, seed=seed)
    words: dict[Path, list[str]] = {}
    for number, sentence in enumerate(drawn):
        speaker, place = number // num_sentences + 1, number % num_sentences + 1
        words[root / f"{speaker:02d}" / f"{speaker:02d}-{place:04d}.wav"] = sentence
    for speaker in range(1, NUM_ACTORS + 1):
        lines = [
            f"{path.stem} {' '.join(sentence)}"
            for path, sentence in words.items()
            if path.parent.name == f"{speaker:02d}"
        ]
        place_of = root / f"{speaker:02d}" / f"{speaker:02d}.trans.txt"
        if not place_of.exists():
            storage.write_text(str(place_of), "\n".join(lines) + "\n")

    def sound(path: Path) -> bytes:
        speaker, place = map(int, path.stem.split("-"))
        emotion = EMOTIONS[place % len(EMOTIONS)]
        return _wav_of(synthesize_sentence(speaker, words[path], emotion, seed=seed))

    return _made(root, list(words), sound, on_progress)


def draw_sentences(num: int, *, seed: int) -> list[list[str]]:
    """`num` different sentences of two to five words."""
    rng = np.random.default_rng(seed)
    vocabulary = sorted(WORDS)
    distinct: dict[tuple[str, ...], None] = {}
    while len(distinct) < num:
        distinct.setdefault(tuple(rng.choice(vocabulary, size=rng.integers(2, 6)).tolist()))
    # Short sentences run out: in random order no speaker has fewer of them.
    sentences = [list(words) for words in distinct]
    return [sentences[index] for index in rng.permutation(num)]


def _made(
    root: Path,
    paths: Sequence[Path],
    sound: Callable[[Path], bytes],
    on_progress: Callable[[int, int], None],
) -> Path:
    """The folder of a corpus, after the missing clips have been made; a mark in it tells that it is finished."""
    if (root / ".complete").exists():
        return root
    missing = [path for path in paths if not path.exists()]
    logger.info("making %d of %d synthetic clips in %s", len(missing), len(paths), root)
    # numpy leaves Python's lock for most of the work; processes would cost more to start than they save.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        made = pool.map(lambda path: storage.write_bytes(str(path), sound(path)), missing)
        for num_done, _ in enumerate(made, start=len(paths) - len(missing) + 1):
            on_progress(num_done, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    storage.write_text(str(root / ".complete"), "")
    return root


def clip_names(num_statements: int, num_repetitions: int, num_intensities: int) -> Iterator[str]:
    """Names of the corpus's clips as RAVDESS has them, such as Actor_12/03-01-06-01-02-01-12.wav."""
    counts = (NUM_ACTORS, len(EMOTIONS), num_intensities, num_statements, num_repetitions)
    for actor, emotion, intensity, statement, repetition in itertools.product(
        *(range(1, count + 1) for count in counts)
    ):
        if (emotion, intensity) != (1, 2):
            codes = (3, 1, emotion, intensity, statement, repetition, actor)
            yield f"Actor_{actor:02d}/{'-'.join(f'{code:02d}' for code in codes)}.wav"


def _wav(name: str, seed: int) -> bytes:
    _, _, emotion, intensity, statement, repetition, actor = (int(code) for code in name.split("-"))
    waveform = synthesize(
        actor,
        EMOTIONS[emotion - 1],
        intensity=intensity,
        statement=statement,
        repetition=repetition,
        seed=seed,
    )
    return _wav_of(waveform)


def _wav_of(waveform: Float[np.ndarray, " samples"]) -> bytes:
    """The waveform as a 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.round(waveform * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
