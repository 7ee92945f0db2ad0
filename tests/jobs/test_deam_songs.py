"""README's recipe of DEAM on songs of mixed lengths, as sox and lame write them into pipes: every song is used whole."""

import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.made.accounting import check_accounts
from w2v2.config import command_line
from w2v2.config.finetune import FinetuneConfig
from w2v2.jobs import finetune

CROP_S = 45


def songs(folder: Path, *, num_songs: int = 30) -> dict[str, float]:
    """The seconds of each song, made of chords whose loudness and pitch follow its ratings."""
    rng, lengths = random.Random(0), {}
    (folder / "audio").mkdir(parents=True)
    rows = ["song_id, valence_mean, valence_std, arousal_mean, arousal_std"]
    for number in range(num_songs):
        song_id, seconds = 2 + 7 * number, rng.choice([8.0, 12.5, 20.0, 44.9, 45.0, 61.0])
        valence, arousal = rng.uniform(1, 9), rng.uniform(1, 9)
        notes = [f"{200 + 60 * valence * part:.0f}" for part in (1, 1.25, 1.5)]
        made = ["sox", "-n", "-r", "22050", "-t", "wav", "-", "synth", str(seconds)]
        made += [word for note in notes for word in ("pluck", note)] + [
            "remix",
            "-",
            "tremolo",
            f"{arousal:.1f}",
            "norm",
            f"{-20 + 2 * arousal:.1f}",
        ]
        wav = subprocess.run(made, capture_output=True, check=True).stdout
        mp3 = folder / "audio" / f"{song_id}.mp3"
        match number % 3:
            case 0:  # no Xing header
                command = ["lame", "--quiet", "-V", "2", "-t", "-", "-"]
            case 1:
                command = ["lame", "--quiet", "-b", "128", "-t", "-", "-"]
            case _:
                command = ["sox", "-t", "wav", "-", "-t", "mp3", "-"]
        mp3.write_bytes(subprocess.run(command, input=wav, capture_output=True, check=True).stdout)
        rows.append(f"{song_id},{valence:.2f},1.0,{arousal:.2f},1.0")
        lengths[str(song_id)] = seconds
    (folder / "static_annotations_averaged_songs_1_2000.csv").write_text("\n".join(rows) + "\n")
    return lengths


@pytest.mark.slow
def test_the_recipe_of_deam_on_songs_of_sox_and_lame(tmp_path: Path) -> None:
    for program in ("sox", "lame"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    lengths = songs(tmp_path / "DEAM")
    recipe = ROOT / "jobs" / "recipes" / "deam_regression.yaml"
    flags = ["--config", str(recipe), "--data.uri", str(tmp_path / "DEAM"), "--run", str(tmp_path / "run")]
    flags += [
        "--cache.uri",
        str(tmp_path / "cache"),
        "--encoder.name",
        "tiny",
        "--training.num_epochs",
        "1",
        "--local",
        "true",
    ]
    plan = finetune.main(command_line.parse(FinetuneConfig, [*flags, "--plan", "true"]))
    cropped = sum(min(seconds, CROP_S) for seconds in lengths.values()) / 3600
    assert plan["audio_hours"] == pytest.approx(cropped, rel=0.35)  # from the sizes of the files
    finetune.main(command_line.parse(FinetuneConfig, flags))
    numbers = check_accounts(tmp_path / "run")
    assert numbers["used"] == len(lengths) and numbers["rejected"] == {}
    clips = pq.read_table(tmp_path / "run" / "manifest.parquet").to_pylist()
    got = {row["clip_id"]: row["duration_s"] for row in clips}
    for song_id, seconds in lengths.items():
        # An encoder adds up to three frames of 1,152 samples.
        assert min(seconds, CROP_S) - 1e-3 <= got[song_id] <= min(seconds + 3 * 1152 / 22050, CROP_S) + 1e-3
    assert np.isfinite(
        pq.read_table(tmp_path / "run" / "predictions.parquet")["pred_valence"].to_numpy()
    ).all()
