"""Samples equal to those of the FFmpeg program, for files of several programs."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.made.sounds import sound, written


def by_ffmpeg(path: Path) -> np.ndarray:
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-map", "0:a:0", "-f", "f32le", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)


COMMANDS = {
    "pipe.mp3": "ffmpeg -v error -i in.wav -q:a 4 -f mp3 pipe:1 > pipe.mp3",
    "lame.mp3": "lame --quiet -V 2 -t in.wav lame.mp3",
    "sox.mp3": "sox in.wav sox.mp3",
    "sox.wav": "sox in.wav -t wav - | cat > sox.wav",
    "pipe.wav": "ffmpeg -v error -i in.wav -f wav - | cat > pipe.wav",
    "pipe.flac": "ffmpeg -v error -i in.wav -f flac - | cat > pipe.flac",
    "gsm.wav": "sox in.wav -r 8000 -e gsm gsm.wav",
    "x.aiff": "sox in.wav x.aiff",
    "x.m4a": "ffmpeg -v error -i in.wav x.m4a",
    "x.webm": "ffmpeg -v error -i in.wav -f webm - | cat > x.webm",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_equal_to_ffmpeg(name: str, tmp_path: Path) -> None:
    for program in ("ffmpeg", COMMANDS[name].split()[0]):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    (tmp_path / "in.wav").write_bytes(written(sound(14.0), "WAV", "PCM_16"))
    subprocess.run(COMMANDS[name], shell=True, cwd=tmp_path, check=True)
    from w2v2.audio.containers import identify
    from w2v2.audio.decoders import open_decoder

    wanted = by_ffmpeg(tmp_path / name)
    decoder = open_decoder(identify((tmp_path / name).read_bytes()))
    got = decoder.read(0, 10**8).values
    # Releases of FFmpeg differ in how much of an encoder's delay they cut off where times are in milliseconds.
    delay = len(got) - len(wanted)
    assert delay == 0 or (name == "x.webm" and 0 <= delay <= 312)
    np.testing.assert_allclose(got[delay:], wanted, atol=0 if decoder.num_frames < np.inf else 1e-4)
