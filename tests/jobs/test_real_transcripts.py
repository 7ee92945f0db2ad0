"""Prompts of a real voice whose file names are words, out of a Debian package: from files to error rates."""

import csv
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.audio.recordings import debian_recordings
from w2v2.config import command_line
from w2v2.config.finetune import FinetuneConfig
from w2v2.jobs import finetune

CARDINALS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
]
DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
PHONETIC = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "xray",
    "yankee",
    "zulu",
]
NAMES = {
    **{f"digits/{n}": word for n, word in enumerate(CARDINALS)},
    **{f"digits/h-{n}": word for n, word in enumerate(ORDINALS, start=1)},
    **{f"digits/day-{n}": word for n, word in enumerate(DAYS)},
    **{f"digits/mon-{n}": word for n, word in enumerate(MONTHS)},
    **{f"phonetic/{word[0]}_p": word for word in PHONETIC},
    **{f"letters/{letter}": letter for letter in "abcdefghijklmnopqrstuvwxyz"},
    **{f"digits/{word}": word for word in ("at", "hundred", "star", "today", "tomorrow", "yesterday")},
    **{word: word for word in ("extension", "for", "goodbye", "hello", "minutes", "second", "sorry")},
    **{f"vm-{word}": word for word in ("extension", "first", "for", "goodbye", "minutes", "sorry")},
    "letters/at": "at",
}


@pytest.mark.slow
def test_words_of_a_real_voice_train_and_score(tmp_path: Path) -> None:
    """The second recording of a word is held out. One voice speaks all, so its two halves have names of their own."""
    voice = "en_US_f_Allison"
    paths = [path for path in debian_recordings(tmp_path) if voice in path.parts]
    by_name = {path.as_posix().partition(f"{voice}/")[2].removesuffix(".wav"): path for path in paths}
    words_seen: set[str] = set()
    rows = []
    for name, word in NAMES.items():
        again = word in words_seen
        words_seen.add(word)
        speaker, split = ("Allison again", "test") if again else ("Allison", "train")
        rows.append({"uri": by_name[name], "speaker": speaker, "text": word, "split": split})
    with (tmp_path / "words.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    flags = ["--task.kind", "transcript", "--data.uri", str(tmp_path / "words.csv"), "--local", "true"]
    flags += ["--run", str(tmp_path / "run"), "--cache.uri", str(tmp_path / "cache")]
    flags += ["--training.num_epochs", "20", "--optim.learning_rate", "4e-3", "--optim.clip_norm", "1"]
    metrics = finetune.main(command_line.parse(FinetuneConfig, flags))
    assert metrics["clips"]["used"] == len(NAMES) and not metrics["clips"]["rejected"]
    num_again = len(NAMES) - len(set(NAMES.values()))
    assert metrics["num_clips"] == num_again == metrics["text"]["num_seen_sentences"] >= 7
    assert 0 < metrics["pooled"]["cer"] < 1.5 and not metrics["text"]["unknown_characters"]
    curve = pq.read_table(tmp_path / "run" / "curves.parquet")["train_loss"].to_pylist()
    assert curve[-1] < 0.75 * curve[0] and math.isfinite(curve[-1])
