"""Makers of small corpora whose labels can be decoded from the audio, for tests of whole jobs; each is deterministic."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from w2v2.audio.synthesis import SAMPLE_RATE_HZ, synthesize_sentence
from w2v2.data.corpora.demo import draw_sentences

LABELS = ("tremor", "breathy", "monotone")
LABELS_TXT = "tremor, breathy\nmonotone\n"
RATES_HZ = (8000, 22050, 44100)
FORMATS = ("wav", "flac", "mp3")


def clinic_corpus(
    folder: Path, *, num_recordings: int = 24, seed: int = 0, val: bool = False, speaker_column: bool = True
) -> Path:
    """The folder with train.csv, test.csv (and val.csv), labels.txt and two studies.

    Study `picture` is flat (file_name has the suffix); study `story` is UID/waveform.EXT with metadata.json,
    which names the speaker too. Speakers have two or three recordings, all in one study and one split: the
    last quarter of them is test. Rates, formats and channels are mixed; every eleventh label is missing.
    """
    rng = np.random.default_rng(seed)
    speakers = _speakers(num_recordings)
    split_of = _splits(sorted(set(speakers)), val=val)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in sorted(set(split_of.values()))}
    for i, speaker in enumerate(speakers):
        present = {"tremor": i % 2, "breathy": i // 2 % 2, "monotone": (i + i // 4) % 2}
        rate, suffix = RATES_HZ[i % 3], FORMATS[i // 3 % 3]
        waveform = _voice(rng, rate, pitch_hz=100 + 15 * (speaker % 7), **present)
        is_flat = speaker % 2 == 0
        study, uid = ("picture", f"rec{i:03}.{suffix}") if is_flat else ("story", f"rec{i:03}")
        path = folder / study / uid if is_flat else folder / study / uid / f"waveform.{suffix}"
        write_audio(path, waveform, rate, num_channels=2 if i % 4 == 1 else 1)
        if not is_flat:
            metadata = {"uid": uid, "speaker": f"P{speaker:02}", "sample_rate_hz": rate}
            (path.parent / "metadata.json").write_text(json.dumps(metadata))
        labels = {name: "" if (3 * i + j) % 11 == 5 else present[name] for j, name in enumerate(LABELS)}
        who = {"speaker": f"P{speaker:02}"} if speaker_column else {}
        rows[split_of[speaker]].append({"file_name": uid, "study": study, **who, **labels})
    for name, split_rows in rows.items():
        write_csv(folder / f"{name}.csv", split_rows)
    (folder / "labels.txt").write_text(LABELS_TXT)
    return folder


def sentences_csv(folder: Path, *, num_speakers: int = 6, num_sentences: int = 4, seed: int = 0) -> Path:
    """The CSV with a text column of sentences by synthetic speakers, no two of them alike."""
    sentences = draw_sentences(num_speakers * num_sentences, seed=seed)
    rows = []
    for i, words in enumerate(sentences):
        speaker = i % num_speakers + 1
        waveform = synthesize_sentence(speaker, words, "neutral", seed=seed)
        write_audio(folder / f"{i:03}.wav", waveform.astype(np.float32), SAMPLE_RATE_HZ)
        rows.append({"uri": f"{i:03}.wav", "speaker": f"S{speaker}", "text": " ".join(words)})
    write_csv(folder / "clips.csv", rows)
    return folder / "clips.csv"


def deam_corpus(folder: Path, *, num_songs: int = 24, seed: int = 0) -> Path:
    """The folder with DEAM's two annotation files, spelled as there, and mp3 songs of 1.5 s.

    Arousal, from 1 to 9, is loudness and tempo; valence is brightness and a major or minor third.
    """
    rng = np.random.default_rng(seed)
    (folder / "annotations").mkdir(parents=True)
    notes: dict[str, list[str]] = {"1_2000": [], "2000_2058": []}
    for i in range(num_songs):
        song_id = 2 + 7 * i if i < num_songs - 3 else 2001 + i
        valence, arousal = rng.uniform(1, 9, 2)
        write_audio(folder / "audio" / f"{song_id}.mp3", _song(rng, valence, arousal), 22050)
        row = f"{song_id},{valence:.2f},{rng.uniform(0.5, 2):.2f},{arousal:.2f},{rng.uniform(0.5, 2):.2f}"
        notes["1_2000" if song_id <= 2000 else "2000_2058"].append(row)
    header = "song_id, valence_mean, valence_std, arousal_mean, arousal_std"
    for years, rows in notes.items():
        path = folder / "annotations" / f"static_annotations_averaged_songs_{years}.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
    return folder


def labelled_csv(folder: Path, *, num_clips: int = 24, seed: int = 0) -> Path:
    """A CSV of wav clips: a class (plain, tremor, breathy), both as labels, their pitch in Hz, and a split."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, speaker in enumerate(_speakers(num_clips)):
        label = ("plain", "tremor", "breathy")[i % 3]
        pitch_hz = float(rng.uniform(90, 260))
        labels = {name: int(label == name) for name in ("tremor", "breathy")}
        write_audio(
            folder / f"{i:03}.wav", _voice(rng, 16_000, pitch_hz=pitch_hz, monotone=1, **labels), 16_000
        )
        clip = {
            "uri": f"{i:03}.wav",
            "speaker": f"s{speaker}",
            "split": ("train", "train", "val", "test")[speaker % 4],
        }
        rows.append({**clip, "label": label, **labels, "pitch_hz": f"{pitch_hz:.1f}"})
    write_csv(folder / "clips.csv", rows)
    return folder / "clips.csv"


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of the same columns as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_audio(path: Path, waveform: np.ndarray, rate: int, *, num_channels: int = 1) -> None:
    """A mono waveform [samples], in as many equal channels, in the format that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = np.repeat(waveform[:, None], num_channels, axis=1)
    soundfile.write(path, channels, rate, format=path.suffix[1:].upper())


def _speakers(num_clips: int) -> list[int]:
    """The speaker of each clip: two clips, three clips, and so on; never one alone."""
    sizes: list[int] = []
    while sum(sizes) < num_clips:
        sizes.append(2 + len(sizes) % 2)
    return [speaker for speaker, size in enumerate(sizes) for _ in range(size)][:num_clips]


def _splits(speakers: Sequence[int], *, val: bool) -> dict[int, str]:
    num_held_out = max(1, len(speakers) // 4)
    split_of = dict.fromkeys(speakers, "train") | dict.fromkeys(speakers[-num_held_out:], "test")
    return split_of | (dict.fromkeys(speakers[:num_held_out], "val") if val else {})


def _voice(
    rng: np.random.Generator, rate: int, *, pitch_hz: float, tremor: int, breathy: int, monotone: int
) -> np.ndarray:
    """About a second of a vowel: tremor trembles in level, breath is noise, and no melody is monotone."""
    time_s = np.arange(int(rng.uniform(0.9, 1.3) * rate)) / rate
    melody_st = 0 if monotone else 5 * np.sin(2 * np.pi * 1.7 * time_s + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch_hz * 2 ** (melody_st / 12) * np.ones_like(time_s)) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 9 if breathy else 14))
    tone = tone * (1 + 0.8 * tremor * np.sin(2 * np.pi * 6 * time_s))
    noise = rng.normal(size=len(time_s)) * (0.7 if breathy else 0.01)
    return (0.15 * (tone + noise)).astype(np.float32)


def _song(rng: np.random.Generator, valence: float, arousal: float) -> np.ndarray:
    """1.5 s of broken chords: louder and faster with arousal, brighter and in major with valence."""
    rate = 22050
    time_s = np.arange(int(1.5 * rate)) / rate
    notes_per_s = 2 + arousal
    chord_st = np.array([0, 4 if valence > 5 else 3, 7])
    root_hz = 220 * 2 ** (rng.integers(-3, 4) / 12)
    hz = root_hz * 2 ** (chord_st[(time_s * notes_per_s).astype(int) % 3] / 12)
    phase = 2 * np.pi * np.cumsum(hz) / rate
    tone = sum(np.sin(k * phase) * (0.1 + valence / 11) ** (k - 1) for k in range(1, 9))
    attack = np.exp(-6 * (time_s * notes_per_s % 1))
    return (0.01 * 1.25**arousal * tone * attack / np.abs(tone).max() * 4).astype(np.float32)
